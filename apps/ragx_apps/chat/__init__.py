"""`ragx chat`: a conversation with an index, in the browser.

| file | |
|---|---|
| command.py | the command |
| page.py | the page and what its controls do |
| conversation.py | turns, replies and sources |
| indexes.py | the indexes that visitors can ask, by name |
| uploads.py | one visitor's own files |
| markup.py | a conversation as HTML, with all text escaped |
| api.py | the endpoint for `gradio_client` |
| serving.py | the address, security headers, closed routes |
| page.css, page.js | how the page looks; opening a citation's passage, following a growing answer |
"""
