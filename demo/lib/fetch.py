"""Stands in for curl in the agent's shell where a machine has none: fetch.py METHOD URL [JSON-BODY].

Obeys the same variables (HTTPS_PROXY, SSL_CERT_FILE); prints the answer as it comes, then its status.
"""
import sys
import urllib.error
import urllib.request

method, url, *body = sys.argv[1:]
request = urllib.request.Request(url, method=method, data=body[0].encode() if body else None)
request.add_header("content-type", "application/json")
try:
    answer = urllib.request.urlopen(request)
except urllib.error.HTTPError as error:
    answer = error
except urllib.error.URLError as error:
    print(f"{error.reason}\nSTATUS 000")
    sys.exit(7)
while part := answer.read1():
    sys.stdout.write(part.decode())
    sys.stdout.flush()
print(f"\nSTATUS {answer.status}")
