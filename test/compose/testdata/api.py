# Counts visits in the cache, and tells who answers and how many orders there are.
import http.server, os, socket


def cache(*words):
    with socket.create_connection((os.environ["CACHE"], 6379), timeout=3) as s:
        s.sendall((" ".join(words) + "\r\n").encode())
        f = s.makefile("rb")
        line = f.readline().decode().strip()
        if line.startswith("$"):
            return f.readline().decode().strip() if int(line[1:]) >= 0 else "0"
        return line[1:]


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/health":
            text = "ok\n"
        else:
            text = "%s visits=%s orders=%s host=%s\n" % (
                os.environ["GREETING"], cache("INCR", "visits"), cache("GET", "orders"), socket.gethostname())
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())


http.server.ThreadingHTTPServer(("", 8000), Page).serve_forever()
