"""Stands in for the get-pip.py that ansible-test downloads: pip as Python ships it, then the pip version asked for.

ansible-test looks for it at ~/.ansible/test/cache/get_pip_<version>.py before it downloads. With this in place it
needs nothing but the package index. Runs with whatever Python ansible-test makes an environment for.
"""
import subprocess
import sys

subprocess.check_call([sys.executable, "-m", "ensurepip", "--upgrade"], stdout=subprocess.DEVNULL)
arguments = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
subprocess.check_call([sys.executable, "-m", "pip", "install"] + arguments)
