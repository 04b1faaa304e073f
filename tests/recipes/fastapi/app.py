"""Says which headers of a request claim to be from Guestpass."""

import os

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from guestpass import Guestpass

app, account = FastAPI(), FastAPI()
app.add_middleware(Guestpass)
account.add_middleware(Guestpass, mode="strict")


@app.get("/")
@account.get("/orders")
async def claims(request: Request):
    return {name: value for name, value in request.headers.items() if "guestpass" in name}


@app.get("/public")
async def public(request: Request):
    return JSONResponse(await claims(request), headers={"Cache-Control": "public, max-age=60"})


app.mount("/account", account)
uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning")
