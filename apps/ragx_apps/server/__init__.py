"""`ragx serve`: an OpenAI-compatible HTTP server over an index.

| file | |
|---|---|
| command.py | the command |
| app.py | the routes |
| asking.py | many questions at once: a bounded queue, time limits, clients that go away |
| requests.py, responses.py | what clients send and get |
| errors.py | errors in OpenAI's shape |
| protection.py | bearer token, Host, size of a request |
| metrics.py | what /metrics counts |
"""
