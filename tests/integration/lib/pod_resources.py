"""The kubelet's pod-resources API for tests: one that answers by Python's gRPC, and one that does not behave."""
import os
import socket
import threading
from concurrent import futures

import grpc

from kubelet import WAIT, load_messages

pb = load_messages("podresources")


class PodResources:
    """Serves v1.PodResourcesLister on DIR/pod-resources/kubelet.sock."""

    def __init__(self, kubelet_dir):
        self.directory = os.path.join(str(kubelet_dir), "pod-resources")
        os.makedirs(self.directory, exist_ok=True)
        self.socket = os.path.join(self.directory, "kubelet.sock")
        self.pods = []            # (namespace, pod, container, resource, [ids])
        self.allocatable = []     # (resource, [ids]) of what can be given out
        self.calls = 0
        self.hold = None          # an Event: List waits for it
        self.refuse = None        # a grpc.StatusCode: List fails with it
        self.server = None

    def start(self):
        if os.path.exists(self.socket):
            os.unlink(self.socket)
        self.server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), options=[("grpc.max_send_message_length", -1)])
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("v1.PodResourcesLister", {
            "GetAllocatableResources": grpc.unary_unary_rpc_method_handler(
                self._allocatable, request_deserializer=pb.AllocatableResourcesRequest.FromString,
                response_serializer=pb.AllocatableResourcesResponse.SerializeToString),
            "List": grpc.unary_unary_rpc_method_handler(self._list, request_deserializer=pb.ListPodResourcesRequest.FromString,
                                                        response_serializer=lambda reply: reply)}),))
        self.server.add_insecure_port("unix:" + self.socket)
        self.server.start()
        return self

    def _list(self, _, context):
        self.calls += 1
        if self.hold:
            self.hold.wait(WAIT)
        if self.refuse:
            context.abort(self.refuse, "rejected by rate limit")
        return self.reply()

    def _allocatable(self, _, __):
        message = pb.AllocatableResourcesResponse()
        for resource, ids in self.allocatable:
            message.devices.add(resource_name=resource, device_ids=ids)
        return message

    def reply(self):
        """What List sends, as bytes."""
        message = pb.ListPodResourcesResponse()
        for namespace, pod, container, resource, ids in self.pods:
            entry = message.pod_resources.add(name=pod, namespace=namespace)
            devices = entry.containers.add(name=container, cpu_ids=[0, 3]).devices.add(resource_name=resource, device_ids=ids)
            devices.topology.nodes.add(ID=0)
        return message.SerializeToString()

    def stop(self):
        if self.hold:
            self.hold.set()
        if self.server:
            self.server.stop(0).wait()
            self.server = None


class Hostile:
    """A socket of that name which answers every connection with `speak(connection)`, and never with gRPC."""

    def __init__(self, kubelet_dir, speak):
        directory = os.path.join(str(kubelet_dir), "pod-resources")
        os.makedirs(directory, exist_ok=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(os.path.join(directory, "kubelet.sock"))
        self.listener.listen(8)
        self.speak = speak
        self.connections = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._speak, args=(connection,), daemon=True).start()

    def _speak(self, connection):
        try:
            self.speak(connection)
        except OSError:
            pass

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.connections:
            connection.close()
        self.thread.join(WAIT)
