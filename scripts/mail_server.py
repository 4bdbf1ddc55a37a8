"""A mail server for tests: the package `aiosmtpd`, made to break off, hang or refuse where it is told to.

    mail_server.py FOLDER [--tls implicit|starttls|none] [--name NAME] [--login USER:PASSWORD]
                          [--fault STAGE:WHAT[:TIMES]]

Prints one line of JSON, {"port": ..., "ca": ...}, and serves on 127.0.0.1 until standard input ends. Each
letter that it takes becomes a file in FOLDER, 1.json, 2.json, …, as Python's own mail package reads it.
Each connection, and each word that it is about to say about a letter, is a line in FOLDER/ledger.

STAGE is what comes to the fault: connect, ehlo, starttls, auth, mail, rcpt, data, body, dot (the letter is
whole, and was taken), quit. WHAT is `drop`, `hang`, `slow` (it answers after a second), or a code of three
digits to answer with. A letter that is answered with a code was not taken. TIMES is how often; always where
absent. Recipients whose name begins with `nobody` are refused for good, with `later` for now.

NAME is what the certificate is for, 127.0.0.1 and localhost where absent; its authority is in FOLDER/ca.pem.
Needs `aiosmtpd` and `trustme`. Called by the tests of e-mail; scripts/test installs what it needs."""

import argparse
import asyncio
import email
import email.policy
import hashlib
import json
import os
import ssl
import sys
import warnings

warnings.filterwarnings("ignore")

import trustme  # noqa: E402
from aiosmtpd.smtp import SMTP, AuthResult  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("--tls", default="none")
parser.add_argument("--name")
parser.add_argument("--login")
parser.add_argument("--fault")
args = parser.parse_args()
os.makedirs(args.folder, exist_ok=True)
stage, what, times = ((args.fault or "none:none").split(":") + ["1000000000"])[:3]
times = int(times)
ledger = open(os.path.join(args.folder, "ledger"), "a", buffering=1)


def due(at):
    """Whether the fault is at this stage, and not used up."""
    global times
    if at != stage or times == 0:
        return False
    times -= 1
    return True


def reading(content):
    """A letter as its reader sees it."""
    letter = email.message_from_bytes(content, policy=email.policy.default)
    body = lambda kind: (part := letter.get_body((kind,))) and part.get_content()
    return {
        "headers": [[name, str(value)] for name, value in letter.items()],
        "text": body("plain"),
        "html": body("html"),
        "attachments": [
            {
                "name": part.get_filename(),
                "mime": part.get_content_type(),
                "sha256": hashlib.sha256(part.get_payload(decode=True)).hexdigest(),
            }
            for part in letter.iter_attachments()
        ],
        "defects": [repr(defect) for part in letter.walk() for defect in part.defects],
        "longest_line": max(len(line) for line in content.split(b"\r\n")),
        "raw": content.decode("ascii"),
    }


class Handler:
    letters = 0

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody"):
            return "550 5.1.1 there is no such mailbox"
        if address.startswith("later"):
            return "450 4.2.0 come back later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        fault = due("dot")
        if fault and what.isdigit():
            return f"{what} told to say so"
        Handler.letters += 1
        told = reading(envelope.original_content)
        told |= {"from": envelope.mail_from, "to": envelope.rcpt_tos, "login": server.user, "tls": server.encrypted()}
        path = os.path.join(args.folder, f"{Handler.letters}.json")
        with open(path + ".part", "w") as file:
            json.dump(told, file)
        os.rename(path + ".part", path)
        ledger.write("taken\n")
        if fault:
            await server.be_ill()
        return f"250 2.0.0 taken as number {Handler.letters}"


class Server(SMTP):
    user = None

    def encrypted(self):
        return self.transport.get_extra_info("ssl_object") is not None

    def connection_made(self, transport):
        ledger.write("connect\n")
        if due("connect"):
            transport.abort()
            return
        super().connection_made(transport)

    async def be_ill(self):
        """What was told to go wrong. Answers whether an answer was given."""
        if what == "drop":
            self.transport.abort()
            await asyncio.sleep(3600)
        if what == "hang":
            await asyncio.sleep(3600)
        if what == "slow":
            await asyncio.sleep(1)
            return False
        await self.push(f"{what} told to say so")
        return True

    async def answered(self, at):
        return due(at) and await self.be_ill()

    async def smtp_EHLO(self, arg):
        if not await self.answered("ehlo"):
            await super().smtp_EHLO(arg)

    async def smtp_STARTTLS(self, arg):
        if not await self.answered("starttls"):
            await super().smtp_STARTTLS(arg)

    async def smtp_AUTH(self, arg):
        if not await self.answered("auth"):
            await super().smtp_AUTH(arg)

    async def smtp_MAIL(self, arg):
        if not await self.answered("mail"):
            await super().smtp_MAIL(arg)

    async def smtp_RCPT(self, arg):
        if not await self.answered("rcpt"):
            await super().smtp_RCPT(arg)

    async def smtp_DATA(self, arg):
        if await self.answered("data"):
            return
        if due("body"):
            await self.push("354 go on")
            await self._reader.readuntil(b"\r\n")
            await self.be_ill()
        await super().smtp_DATA(arg)

    async def smtp_QUIT(self, arg):
        if not await self.answered("quit"):
            await super().smtp_QUIT(arg)


def login(server, session, envelope, mechanism, given):
    user, password = given.login.decode(), given.password.decode()
    if f"{user}:{password}" != args.login:
        return AuthResult(success=False, handled=False)
    server.user = user
    return AuthResult(success=True)


async def main():
    authority = trustme.CA()
    ca = os.path.join(args.folder, "ca.pem")
    authority.cert_pem.write_to_path(ca)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    names = [args.name] if args.name else ["127.0.0.1", "localhost"]
    authority.issue_cert(*names).configure_cert(context)
    more = {}
    if args.login:
        more = {"auth_required": True, "auth_require_tls": args.tls == "starttls", "authenticator": login}
    if args.tls == "starttls":
        more |= {"tls_context": context, "require_starttls": True}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Server(Handler(), hostname="mail.test", data_size_limit=None, loop=loop, **more),
        host="127.0.0.1",
        port=0,
        ssl=context if args.tls == "implicit" else None,
    )
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"port": port, "ca": ca}), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    os._exit(0)


asyncio.run(main())
