"""A stand-in for the Kubernetes API server: one Node, events, watches; over TLS with a throw-away CA, and tokens.

It keeps what the daemon relies on: resourceVersions, server-side apply by field manager, strategic merge of conditions,
410 for what it no longer remembers. And it can be made to misbehave: `faults` is a list of functions, each called with a
request; the first that returns true has answered it.
"""
import copy
import http.server
import json
import os
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse

from node import wait_until

NODE = "node-1"


class Authority:
    """A CA and a certificate of the server that it vouches for, made by openssl."""

    def __init__(self, directory, name="ca"):
        self.directory = os.path.join(str(directory), name)
        os.makedirs(self.directory)
        self.ca = os.path.join(self.directory, "ca.crt")
        self.pair = os.path.join(self.directory, "server.pem")
        key = os.path.join(self.directory, "ca.key")
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out",
                      self.ca, "-days", "2", "-subj", "/CN=" + name)
        request = os.path.join(self.directory, "server.csr")
        server_key = os.path.join(self.directory, "server.key")
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", server_key, "-out", request,
                      "-subj", "/CN=kube-apiserver")
        extensions = os.path.join(self.directory, "san")
        with open(extensions, "w", encoding="ascii") as file:
            file.write("subjectAltName=IP:127.0.0.1\n")
        certificate = os.path.join(self.directory, "server.crt")
        self._openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", key, "-CAcreateserial", "-days", "2", "-extfile", extensions,
                      "-out", certificate)
        with open(self.pair, "w", encoding="ascii") as file:
            for part in certificate, server_key:
                with open(part, encoding="ascii") as source:
                    file.write(source.read())

    @staticmethod
    def _openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)


class Credentials:
    """A service account's directory, as the kubelet mounts it: files are links, swapped as one."""

    def __init__(self, directory, authority, token="first-token"):
        self.directory = str(directory)
        self.generation = 0
        os.makedirs(self.directory)
        self.write(authority, token)

    def write(self, authority, token):
        self.generation += 1
        data = "..data_%d" % self.generation
        os.makedirs(os.path.join(self.directory, data))
        with open(os.path.join(self.directory, data, "token"), "w", encoding="ascii") as file:
            file.write(token)
        with open(authority.ca, encoding="ascii") as source, open(os.path.join(self.directory, data, "ca.crt"), "w", encoding="ascii") as file:
            file.write(source.read())
        link = os.path.join(self.directory, "..data")
        os.symlink(data, link + "_tmp")
        os.rename(link + "_tmp", link)
        for name in "token", "ca.crt":
            if not os.path.islink(os.path.join(self.directory, name)):
                os.symlink(os.path.join("..data", name), os.path.join(self.directory, name))


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 300

    def log_message(self, *_):
        pass

    def handle(self):
        try:
            super().handle()
        except (OSError, ssl.SSLError):
            pass

    def _serve(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        self.api.serve(self)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _serve

    @property
    def api(self):
        return self.server.api

    @property
    def is_watch(self):
        return "watch=1" in self.path

    def answer(self, code, document, headers=()):
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, code, message, headers=()):
        self.answer(code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}, headers)

    def begin_watch(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()

    def send_chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def end_watch(self):
        self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def cut(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def get_request(self):
        connection, address = super().get_request()
        # The handshake is the connection's own thread's business.
        return self.api.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, *_):
        pass


class ApiServer:
    def __init__(self, directory, authority):
        self.authority = authority
        self.credentials = Credentials(os.path.join(str(directory), "serviceaccount"), self.authority)
        self.tokens = {"first-token"}
        self.lock = threading.Condition()
        self.version = 1000
        self.forgotten = 0        # versions up to this one are no longer known
        self.node = {"kind": "Node", "apiVersion": "v1",
                     "metadata": {"name": NODE, "uid": "uid-1", "resourceVersion": "1000", "labels": {"kubernetes.io/hostname": NODE},
                                  "annotations": {}}, "status": {"conditions": []}}
        self.owned = {}           # field manager: {"labels": keys, "annotations": keys}
        self.log = []             # (version of the event, type, object)
        self.events = []
        self.features = None      # NodeFeature objects by path, of a cluster that has Node Feature Discovery
        self.requests = []        # (method, path, body), authorised ones
        self.refused = 0
        self.faults = []
        self.running = False
        self.connections = set()
        self.server = None
        self.port = None
        self.start()

    # --- life ---

    def start(self):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.authority.pair)
        api = self

        class Handler(_Handler):
            def setup(self):
                super().setup()
                api.connections.add(self.connection)

            def finish(self):
                api.connections.discard(self.connection)
                try:
                    super().finish()
                except OSError:
                    pass

        self.server = _Server(("127.0.0.1", self.port or 0), Handler, bind_and_activate=False)
        self.server.api = self
        self.server.allow_reuse_address = True
        self.server.server_bind()
        self.server.server_activate()
        self.port = self.server.server_port
        self.running = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self):
        """Away: nobody listens, and all connections are cut."""
        self.running = False
        with self.lock:
            self.lock.notify_all()
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None
        self.cut_connections()

    def cut_connections(self):
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def environment(self):
        return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.port), "NODE_NAME": NODE,
                "GPUSHARE_SERVICE_ACCOUNT_DIR": self.credentials.directory}

    # --- the store ---

    def change(self, edit, kind="MODIFIED"):
        """Edits the node; its watchers are told when it became another one."""
        with self.lock:
            before = copy.deepcopy(self.node)
            edit(self.node)
            if self.node != before:
                self.version += 1
                self.node["metadata"]["resourceVersion"] = str(self.version)
                self.log.append((self.version, kind, copy.deepcopy(self.node)))
                self.lock.notify_all()
            return copy.deepcopy(self.node)

    def label(self, **labels):
        """label(nvidia_com__mig_config="x") is too clumsy, so: label(**{key: value}); None removes."""
        def edit(node):
            for key, value in labels.items():
                if value is None:
                    node["metadata"]["labels"].pop(key, None)
                else:
                    node["metadata"]["labels"][key] = value
        self.change(edit)

    def labels(self):
        with self.lock:
            return dict(self.node["metadata"]["labels"])

    def condition(self, kind):
        with self.lock:
            return next((copy.deepcopy(c) for c in self.node["status"]["conditions"] if c["type"] == kind), None)

    def wait_condition(self, kind, status, reason):
        def probe():
            condition = self.condition(kind)
            return condition if condition and (condition["status"], condition["reason"]) == (status, reason) else None
        return wait_until(probe, "condition %s %s %s; there are %s" % (kind, status, reason, self.node["status"]["conditions"]))

    def wait_event(self, reason, count=1):
        def probe():
            found = [e for e in self.events if e["reason"] == reason]
            return found[-1] if len(found) >= count else None
        return wait_until(probe, "%d events %s; there are %s" % (count, reason, [(e["reason"], e["note"]) for e in self.events]))

    def watches(self):
        return [r for r in self.requests if "watch=1" in r[1]]

    def writes(self):
        return [r for r in self.requests if "watch=1" not in r[1]]

    def wait_quiet(self, seconds=2):
        """Until no request comes for a while; their number."""
        def probe():
            before = len(self.requests)
            time.sleep(seconds)
            return before if len(self.requests) == before else None
        return wait_until(probe, "quiet")

    # --- requests ---

    def serve(self, request):
        for fault in list(self.faults):
            if fault(request):
                return
        if request.headers.get("Authorization") not in {"Bearer " + token for token in self.tokens}:
            self.refused += 1
            request.refuse(401, "Unauthorized")
            return
        self.requests.append((request.command, request.path, request.body.decode()))
        url = urllib.parse.urlsplit(request.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        node_path = "/api/v1/nodes/" + NODE
        if request.command == "GET" and url.path == "/api/v1/nodes" and query.get("watch") == "1":
            self._watch(request, query)
        elif request.command == "PATCH" and url.path == node_path:
            self._apply(request, query)
        elif request.command == "PATCH" and url.path == node_path + "/status":
            self._merge_status(request)
        elif request.command == "PATCH" and self.features is not None and url.path.startswith("/apis/nfd.k8s-sigs.io/v1alpha1/"):
            self._apply_feature(request, url.path, query["fieldManager"])
        elif request.command in ("GET", "DELETE") and url.path in (self.features or ()):
            request.answer(200, self.features.pop(url.path) if request.command == "DELETE" else self.features[url.path])
        elif request.command == "POST" and url.path == "/apis/events.k8s.io/v1/namespaces/default/events":
            self._record(request)
        else:
            request.refuse(404, "the server could not find the requested resource")

    def _watch(self, request, query):
        assert query["fieldSelector"] == "metadata.name=" + NODE, query
        seen = int(query.get("resourceVersion") or 0)
        if seen and seen <= self.forgotten:
            request.refuse(410, "too old resource version")
            return
        if seen > self.version:
            request.refuse(504, "Timeout: Too large resource version: %d, current: %d" % (seen, self.version))
            return
        with self.lock:
            request.begin_watch()
            if not seen and "allowWatchBookmarks" in query:
                # As Kubernetes 1.36 with an etcd that cannot report its progress.
                request.send_chunk(b'{"type":"ERROR","object":{"kind":"Status","code":500,"message":"RequestWatchProgress is disabled"}}\n')
                request.end_watch()
                return
            if not seen:
                self._send(request, "ADDED", self.node)
                seen = self.version
        deadline = time.monotonic() + int(query["timeoutSeconds"])
        while self.running and time.monotonic() < deadline:
            with self.lock:
                due = [e for e in self.log if e[0] > seen]
                if not due:
                    self.lock.wait(0.2)
                    continue
            for version, kind, node in due:
                self._send(request, kind, node)
                seen = version
        request.end_watch()

    @staticmethod
    def _send(request, kind, node):
        metadata_only = "PartialObjectMetadata" in request.headers.get("Accept", "")
        shown = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": node["metadata"]} if metadata_only else node
        request.send_chunk(json.dumps({"type": kind, "object": shown}).encode() + b"\n")

    def _apply(self, request, query):
        assert request.headers["Content-Type"] == "application/apply-patch+yaml", request.headers
        wanted = json.loads(request.body)["metadata"]
        manager = query["fieldManager"]

        def edit(node):
            for part in "labels", "annotations":
                now = wanted.get(part, {})
                for key in self.owned.get(manager, {}).get(part, set()) - set(now):
                    if not any(key in o.get(part, ()) for m, o in self.owned.items() if m != manager):
                        node["metadata"][part].pop(key, None)
                node["metadata"][part].update(now)
            self.owned[manager] = {part: set(wanted.get(part, {})) for part in ("labels", "annotations")}
        request.answer(200, self.change(edit))

    def _apply_feature(self, request, path, manager):
        assert request.headers["Content-Type"] == "application/apply-patch+yaml", request.headers
        feature = json.loads(request.body)
        assert path.endswith("/namespaces/%s/nodefeatures/%s" % (feature["metadata"]["namespace"], feature["metadata"]["name"]))
        assert feature["kind"] == "NodeFeature" and set(feature["spec"]["features"]) == {"flags", "attributes", "instances"}
        feature["metadata"]["managedFields"] = [{"manager": manager, "operation": "Apply"}]
        self.features[path] = feature
        request.answer(200, feature)

    def _merge_status(self, request):
        assert request.headers["Content-Type"] == "application/strategic-merge-patch+json", request.headers
        patch = json.loads(request.body)["status"]["conditions"]

        def edit(node):
            conditions = node["status"]["conditions"]
            for new in patch:
                old = next((c for c in conditions if c["type"] == new["type"]), None)
                if new.get("$patch") == "delete":
                    if old:
                        conditions.remove(old)
                elif old is None:
                    conditions.append(dict(new))
                else:
                    old.update(new)
        request.answer(200, self.change(edit))

    def _record(self, request):
        event = json.loads(request.body)
        for field in "eventTime", "reportingController", "reportingInstance", "action", "reason", "type", "note":
            assert event[field], event
        assert len(event["note"].encode()) <= 1024 and event["regarding"]["kind"] == "Node", event
        if any(e["metadata"]["name"] == event["metadata"]["name"] for e in self.events):
            request.refuse(409, "already exists")
            return
        self.events.append(event)
        request.answer(201, event)
