"""Serve app/dist on this machine: ``python app/serve.py 8866`` (`make demo`). The standard library alone."""

import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

DIST = Path(__file__).parent / "dist"
# the page says the same of itself; its workers obey the header of their own files only
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
)


class Handler(SimpleHTTPRequestHandler):
    """Files of the page, compressed where a compressed copy lies beside them."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
        ".opus": "audio/ogg",
    }
    protocol_version = "HTTP/1.1"

    def send_head(self):
        """Send the compressed copy under the type of the file itself."""
        self.packed_type = None
        plain = Path(self.translate_path(self.path))
        if plain.is_dir():
            plain /= "index.html"
        packed = plain.with_name(f"{plain.name}.gz")
        if "gzip" in self.headers.get("Accept-Encoding", "") and packed.is_file():
            self.packed_type = self.guess_type(str(plain))
            self.path = f"/{packed.relative_to(DIST).as_posix()}"
        return super().send_head()

    def send_header(self, keyword: str, value: str) -> None:
        """Give a compressed file the type of the file that it holds."""
        if self.packed_type and keyword.lower() == "content-type":
            super().send_header("Content-Encoding", "gzip")
            value = self.packed_type
        super().send_header(keyword, value)

    def end_headers(self) -> None:
        """Add what keeps the page to itself."""
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Write no line per file."""


class Server(ThreadingHTTPServer):
    """A server that does not mind a page that closes before it has everything."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Tell other errors than a lost connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def main() -> None:
    """Serve until Ctrl-C."""
    port = int(sys.argv[1])
    if not (DIST / "index.html").is_file():
        sys.exit("demo: the page is not built; make app")
    try:
        server = Server(("127.0.0.1", port), partial(Handler, directory=DIST))
    except OSError as error:
        sys.exit(
            f"demo: port {port} is not free ({error.strerror}); name another: make demo PORT=8877"
        )
    print(f"http://127.0.0.1:{port}/ (Ctrl-C ends it)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
