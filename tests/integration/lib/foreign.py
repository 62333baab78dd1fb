"""Device plugins that are not ours, for tests: Python's gRPC, as NVIDIA's, Google's and others' plugins look to the kubelet."""
import os
import threading
from concurrent import futures

import grpc

from kubelet import WAIT, pb

SPEC = """{"cdiVersion": "0.5.0", "kind": "k8s.device-plugin.nvidia.com/gpu", "devices": [
  {"name": "0", "containerEdits": {"env": ["THEIRS=0"]}}, {"name": "1", "containerEdits": {"env": ["THEIRS=1"]}}]}
"""


class Foreign:
    """Serves `ids` as `resource` on DIRECTORY/SOCKET; registers with a kubelet where it is told to."""

    def __init__(self, directory, ids, resource="nvidia.com/gpu", socket="nvidia-gpu.sock"):
        self.directory, self.ids, self.resource = str(directory), list(ids), resource
        self.endpoint = socket
        self.path = os.path.join(self.directory, socket)
        self.ended = threading.Event()
        self.watchers = 0
        self.server = None
        self.known = None  # how the kubelet knows it; None: a real one does not tell

    def start(self):
        os.makedirs(self.directory, exist_ok=True)
        if os.path.exists(self.path):  # as NVIDIA's plugin does
            os.unlink(self.path)
        self.ended.clear()
        self.server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("v1beta1.DevicePlugin", {
            "GetDevicePluginOptions": grpc.unary_unary_rpc_method_handler(lambda _, __: pb.DevicePluginOptions(),
                                                                          pb.Empty.FromString, pb.DevicePluginOptions.SerializeToString),
            "Allocate": grpc.unary_unary_rpc_method_handler(self._allocate, pb.AllocateRequest.FromString,
                                                            pb.AllocateResponse.SerializeToString),
            "ListAndWatch": grpc.unary_stream_rpc_method_handler(self._list, pb.Empty.FromString,
                                                                 pb.ListAndWatchResponse.SerializeToString)}),))
        self.server.add_insecure_port("unix:" + self.path)
        self.server.start()
        return self

    def register(self, kubelet):
        with grpc.insecure_channel("unix:" + kubelet.socket) as channel:
            channel.unary_unary("/v1beta1.Registration/Register", pb.RegisterRequest.SerializeToString, pb.Empty.FromString)(
                pb.RegisterRequest(version="v1beta1", endpoint=self.endpoint, resource_name=self.resource), timeout=WAIT)
        self.known = getattr(kubelet, "plugins", {}).get(self.resource)
        return self

    def _allocate(self, request, _):
        reply = pb.AllocateResponse()
        for container in request.container_requests:
            reply.container_responses.add(envs={"THEIRS": ",".join(container.devices_ids)})
        return reply

    def _list(self, _, context):
        self.watchers += 1
        yield pb.ListAndWatchResponse(devices=[pb.Device(ID=i, health="Healthy") for i in self.ids])
        while context.is_active() and not self.ended.wait(0.05):
            pass

    def stop(self):
        self.ended.set()
        if self.server:
            self.server.stop(0).wait()
            self.server = None
        if self.known:  # the kubelet sees it go, too
            self.known.ended.wait(WAIT)
            self.known = None
