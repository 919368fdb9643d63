"""What the parsers of HTML pages, books and mails share: the main region of a page, its text and metadata."""
