"""aiohttp, which takes a proxy from the environment only when it is told to."""

import asyncio
import sys

import aiohttp


async def main(method, url):
    async with aiohttp.ClientSession(trust_env=True) as session:
        body = {"amount": 1} if method == "POST" else None
        headers = {"Authorization": "Bearer of-the-agent"}
        async with session.request(method, url, json=body, headers=headers) as response:
            print(await response.text())
            print(response.status)


asyncio.run(main(*sys.argv[1:]))
