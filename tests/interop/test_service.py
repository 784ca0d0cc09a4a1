"""What a service manager sees (sd_notify(3)): ready when both processes serve, alive while the loop turns, stopping at the end."""
import socket

from interop.kedge import PATIENCE_S, Kedge


def test_service_manager_is_told_ready_alive_and_stopping(tmp_path, monkeypatch):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(PATIENCE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        kedge = Kedge(tmp_path / "kedge", config={"sip": {"listen": ["udp:127.0.0.1:25060"]}})
        kedge.spawn()
        try:
            heard = []
            while "READY=1" not in heard:
                heard.append(manager.recv(100).decode())
            assert kedge.try_ctl("version").returncode == 0, "ready was said before it was true"
            assert manager.recv(100) == b"WATCHDOG=1"
        finally:
            kedge.stop()
        heard = []
        while "STOPPING=1" not in heard:
            heard.append(manager.recv(100).decode())
