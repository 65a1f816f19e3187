"""The parts of ``gpu.py``: each checks or measures one thing on a device, and returns its figures."""
