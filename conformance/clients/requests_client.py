"""requests, with nothing set."""

import sys

import requests

method, url = sys.argv[1:]
response = requests.request(
    method, url, json={"amount": 1} if method == "POST" else None, headers={"Authorization": "Bearer of-the-agent"}
)
print(response.text)
print(response.status_code)
