"""`ragx serve`: an OpenAI-compatible HTTP server over an index.

| file | |
|---|---|
| command.py | the command |
| app.py | the application |
| completions.py, embeddings.py, search.py, reranking.py, models.py, responses_api/ | its routes |
| service.py | answers within time limits, for clients that may disconnect |
| requests.py, responses.py | JSON in and out |
| errors.py | errors in OpenAI's form |
| protection.py | bearer token, Host header, request size |
| metrics.py, logs.py | Prometheus metrics; logs with the id of each request |
"""
