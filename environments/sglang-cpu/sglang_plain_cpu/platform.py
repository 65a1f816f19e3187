"""The platform that the plugin offers to SGLang."""

from sglang.srt.platforms.cpu import CpuDeviceMixin
from sglang.srt.platforms.interface import PlatformCapabilities, PlatformEnum, SRTPlatform


class PlainCpuPlatform(CpuDeviceMixin, SRTPlatform):
    """A CPU without SGLang's kernel package.

    Being out of tree makes SGLang call each fused operation's own ``forward_native``; claiming no capability keeps
    triton, graphs and compiled collectives off.
    """

    _enum = PlatformEnum.OOT
    capabilities = PlatformCapabilities()

    def get_device(self, device_id: int = 0) -> str:
        """Default to the CPU where no ``--device`` is given."""
        return "cpu"

    def get_default_attention_backend(self) -> str:
        """Default to PyTorch's own attention where no ``--attention-backend`` is given."""
        return "torch_native"
