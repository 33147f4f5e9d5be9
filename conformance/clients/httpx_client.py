"""httpx, with nothing set."""

import sys

import httpx

method, url = sys.argv[1:]
response = httpx.request(
    method, url, json={"amount": 1} if method == "POST" else None, headers={"Authorization": "Bearer of-the-agent"}
)
print(response.text)
print(response.status_code)
