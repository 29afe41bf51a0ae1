"""A wire between a till and the gateway that can lose an answer: the request arrives, the answer does not."""

import socket
import threading

# More than HTTP/2's own small frames (settings, pings), less than any answer.
ANSWER_BYTES = 100


class LossyWire:
    """Forwards TCP connections to `endpoint`; `address` is where to call instead."""

    def __init__(self, endpoint):
        host, port = endpoint.rsplit(":", 1)
        self.target = (host, int(port))
        self.lose_next_answer = False
        self.answers_lost = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            till, _ = self.listener.accept()
            network = socket.create_connection(self.target)
            threading.Thread(target=self._forward, args=(till, network), daemon=True).start()
            threading.Thread(target=self._answer, args=(network, till), daemon=True).start()

    def _forward(self, till, network):
        try:
            while data := till.recv(65536):
                network.sendall(data)
        except OSError:
            pass
        finally:
            network.close()

    def _answer(self, network, till):
        withheld = 0
        try:
            while data := network.recv(65536):
                if self.lose_next_answer:
                    withheld += len(data)
                    if withheld >= ANSWER_BYTES:
                        self.lose_next_answer = False
                        self.answers_lost += 1
                        till.shutdown(socket.SHUT_RDWR)
                        break
                    continue
                till.sendall(data)
        except OSError:
            pass
        finally:
            till.close()
