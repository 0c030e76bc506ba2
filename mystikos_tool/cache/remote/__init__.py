"""A cache on a server: results of actions by key, their files by digest (Remote Execution API v2).

``Client`` in :mod:`client` fetches and stores the files of one action. It speaks to the server by
gRPC or HTTP, believes no byte that it has not verified, and gives up on a server before that costs
a build noticeable time. gRPC, Protocol Buffers, FastCDC and Zstandard are loaded on the first request.
"""
