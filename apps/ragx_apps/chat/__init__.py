"""`ragx chat`: a conversation with an index, in the browser.

| file | |
|---|---|
| command.py | the command |
| page.py | the page's layout, and which handler each control calls |
| handlers.py | what the controls do |
| settings.py | what a visitor has set |
| conversation.py | turns, replies and sources |
| chats.py | a visitor's conversations, as the browser keeps them |
| indexes.py | the indexes that visitors can ask, by name |
| examples.py | questions to begin with |
| uploads.py | one visitor's own files |
| feedback.py | ratings of answers |
| pdf_page.py | a page of a PDF file as an image |
| markup.py | a conversation as HTML, with all text escaped |
| api.py | the endpoint for `gradio_client` |
| serving.py | the address, security headers, closed routes |
| page.css, page.js | how the page looks; what it does without the server |
"""
