"""MediaWiki dumps and their markup."""
