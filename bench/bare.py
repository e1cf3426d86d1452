"""The framework alone: a POST that reads JSON and answers JSON, on the same server with the same settings as ours."""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def verify(request: Request) -> JSONResponse:
    """Nothing but reading and answering."""
    await request.json()
    return JSONResponse({"verified": True})


if __name__ == "__main__":
    app = Starlette(routes=[Route("/verify", verify, methods=["POST"])])
    uvicorn.run(
        app, port=int(sys.argv[1]), loop="uvloop", http="httptools", ws="none", log_config=None, access_log=False
    )
