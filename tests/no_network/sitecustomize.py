"""Put this folder on PYTHONPATH and no Python process reaches beyond this machine: names don't resolve, sockets don't
connect. Kernels talk to their clients over the loopback interface, which stays open."""

import ipaddress
import socket

MESSAGE = "network access is blocked in this test"
_connect, _connect_ex, _sendto, _getaddrinfo = (
    socket.socket.connect,
    socket.socket.connect_ex,
    socket.socket.sendto,
    socket.getaddrinfo,
)


def _local(host) -> bool:
    host = host.decode() if isinstance(host, bytes) else host
    if host in (None, "", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except (ValueError, TypeError):
        return False
    return address.is_loopback or address.is_unspecified


def _guard(sock, address):
    if sock.family in (socket.AF_INET, socket.AF_INET6) and not _local(address[0]):
        raise ConnectionRefusedError(111, MESSAGE)


def connect(self, address):
    _guard(self, address)
    return _connect(self, address)


def connect_ex(self, address):
    _guard(self, address)
    return _connect_ex(self, address)


def sendto(self, data, *rest):
    _guard(self, rest[-1])
    return _sendto(self, data, *rest)


def getaddrinfo(host, *args, **kwargs):
    if not _local(host):
        raise socket.gaierror(socket.EAI_AGAIN, MESSAGE)
    return _getaddrinfo(host, *args, **kwargs)


socket.socket.connect = connect
socket.socket.connect_ex = connect_ex
socket.socket.sendto = sendto
socket.getaddrinfo = getaddrinfo
