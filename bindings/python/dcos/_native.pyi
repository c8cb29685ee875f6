"""The compiled half: thin wrappers around the Rust library. Messages are JSON text."""

from collections.abc import Callable

__version__: str

class HttpClient:
    """Requests to one server, through the Rust client: leader redirects, gzip, timeouts."""

    def __init__(self, base: str, *, port: int | None = None, timeout: float = 30.0, token: str | None = None) -> None:
        """`base` is a URL such as `http://127.0.0.1:5050`, `timeout` in seconds.

        If it is `zk://…` or `etcd://…`, requests go to who leads there, at `port` instead of the master's own.
        `token` is shown to the server.
        """

    def request(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        """The status code and body of the answer.

        Raises `ConnectionError` if nobody answers and `TimeoutError` if the answer takes too long.
        """

class SchedulerDriver:
    """Keeps a framework subscribed; see `dcos.SchedulerDriver`."""

    def __init__(
        self,
        master: str,
        framework: str,
        on_event: Callable[[str, str], None],
        *,
        suppressed_roles: list[str] = ...,
        explicit_acknowledgement: bool = False,
        protobuf: bool = False,
        token: str | None = None,
    ) -> None:
        """`framework` is a FrameworkInfo; `on_event` gets each event's name and its JSON."""

    @property
    def framework_id(self) -> str | None: ...
    def run(self) -> bool:
        """Blocks until stopped; true if the framework was torn down.

        Raises `ConnectionRefusedError` with the master's words if it wants nothing of the framework.
        """

    def call(self, call: str) -> None:
        """Sends a Call; its `framework_id` is filled in."""

    def why(self, role: str | None, resources: str | None, conditions: str | None) -> str:
        """Why the framework is not offered more, as JSON."""

    def stop(self) -> None: ...
    def teardown(self) -> None: ...
