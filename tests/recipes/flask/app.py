"""Says which headers of a request claim to be from Guestpass."""

import os

from flask import Blueprint, Flask, request

import guestpass

app = Flask(__name__)
account = Blueprint("account", __name__)
app.before_request(guestpass.soft)
account.before_request(guestpass.strict)


@app.get("/")
@account.get("/account")
def claims():
    return {name.lower(): value for name, value in request.headers.items() if "guestpass" in name.lower()}


@app.get("/public")
def public():
    return claims(), {"Cache-Control": "public, max-age=60"}


app.register_blueprint(account)
app.run("127.0.0.1", int(os.environ["PORT"]))
