"""moto as the store behind the front: corrected where it is not like EC2, called without a socket."""

import functools
import io
import os
import re
from typing import Any, Dict, List, Mapping, Tuple
from urllib.parse import urlencode

# moto reads this for a new backend: 1,300 unneeded images take 20 ms per reset.
os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")

import xmltodict  # type: ignore[import-untyped]
from moto import backends
from moto.core import responses, serialize
from moto.core.model_instances import reset_model_data
from moto.ec2 import utils as ec2_utils
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import ec2_backends, tags
from moto.ec2.models.elastic_network_interfaces import Attachment, NetworkInterface
from moto.ec2.models.instances import Instance
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from .wire import Reply

ERROR_CODE = re.compile(rb"<Code>([^<]*)</Code>")
Params = Mapping[str, str]


def _own_groups(interface: Any) -> List[Any]:
    """moto adds the instance's groups; in EC2 an interface has its own and no others."""
    return list(interface._group_set)


def _attachment(interface: Any) -> Any:
    """moto always says network card 0."""
    if not interface.attachment_id:
        return None
    attachment = Attachment(interface)
    attachment.network_card_index = getattr(interface, "network_card_index", 0)
    return attachment


def _instance_groups(instance: Any) -> List[Any]:
    """In EC2 an instance's groups are those of its primary interface."""
    primary = getattr(instance, "nics", {}).get(0)
    return list(primary._group_set) if primary is not None else list(instance._launch_groups)


def _set_instance_groups(instance: Any, groups: Any) -> None:
    primary = getattr(instance, "nics", {}).get(0)
    if primary is not None:
        primary._group_set = list(groups)
    else:
        instance._launch_groups = list(groups)


def _interfaces(instance: Any) -> List[Any]:
    """A terminated instance has none, though moto keeps them for its addresses."""
    return [nic for nic in instance.nics.values() if nic.instance is instance]


def _interface_group_ids(instance: Any) -> List[str]:
    return [group.id for nic in _interfaces(instance) for group in nic._group_set]


def _primary_address(instance: Any) -> Any:
    """None of a terminated instance, nor of one in an IPv6-only subnet."""
    primary = next((nic for nic in _interfaces(instance) if nic is instance.nics.get(0)), None)
    return primary.private_ip_address if primary is not None else None


def _private_dns_name(instance: Any, original: Any = Instance.private_dns_name.fget) -> str:
    """Of an IPv6-only instance it is made of the instance's ID."""
    if instance._state.name == "terminated":
        return ""
    if instance.private_ip is None:
        return f"{instance.id}.{instance.region_name}.compute.internal"
    return str(original(instance))


def _ipv6_addresses(instance: Any) -> List[str]:
    return [str(address) for nic in _interfaces(instance) for address in nic.ipv6_addresses]


def _volume_ids(instance: Any) -> List[str]:
    return [str(block.volume_id) for _, block in instance.get_block_device_mapping]


def _detach(instance: Any, interface: Any) -> None:
    """By identity: on instances with several network cards the same device index occurs more than once."""
    instance.nics = {key: nic for key, nic in instance.nics.items() if nic is not interface}
    interface.instance = interface.attachment_id = interface.attach_time = interface.device_index = None
    interface.status = "available"


def _terminate(instance: Any, original: Any = Instance.terminate) -> Any:
    """Lets go of the interfaces, as EC2 does."""
    previous = original(instance)
    for interface in _interfaces(instance):
        interface.instance = interface.attachment_id = interface.attach_time = None
        interface.status = "available"
    return previous


def _filter_regex(value: str) -> str:
    """Of a filter's value: `*` is any number of characters, `?` none or one, `\\` takes both their meaning."""
    parts = re.findall(r"\?+|\\.|.", value, re.DOTALL)
    most = {p: f".{{0,{len(p)}}}" for p in parts if p[0] == "?"}  # many of `.?` in a row would take without end
    wild = {"*": ".*", **most}
    return "(?s:" + "".join(wild.get(p, re.escape(p[-1])) for p in parts) + r")\Z"


def _in_filter_values(value: Any, wanted: Any) -> bool:
    """moto knows wildcards in tags only."""
    values = value if isinstance(value, list) else [str(value).lower() if isinstance(value, bool) else value]
    return any(re.match(_filter_regex(w), str(v)) for w in wanted for v in values if v is not None)


def patch() -> None:
    """Corrects moto's classes; may be called repeatedly."""
    if getattr(Instance, "_corrected", False):
        return
    Instance._corrected = True  # type: ignore[attr-defined]
    # Read at each call, which takes a quarter of its time; the values never change.
    modules = frozenset(backends.list_of_moto_modules())
    backends.list_of_moto_modules = lambda: modules
    responses.method_names_from_class = functools.lru_cache(None)(responses.method_names_from_class)
    # What is looked up again for each member of each thing in a reply, and depends only on their kinds.
    names: Dict[Any, Tuple[str, ...]] = {}
    possible = serialize.XFormedAttributePicker.get_possible_keys

    def possible_names(self: Any, context: Any) -> Tuple[str, ...]:
        kind = type(self), type(context.obj), context.shape, context.key
        return names.get(kind) or names.setdefault(kind, tuple(possible(self, context)))

    serialize.XFormedAttributePicker.get_possible_keys = possible_names  # type: ignore[assignment,method-assign]
    xmltodict._validate_name = functools.lru_cache(None)(xmltodict._validate_name)  # type: ignore[attr-defined]
    NetworkInterface.group_set = property(_own_groups)  # type: ignore[assignment,method-assign]
    NetworkInterface.attachment = property(_attachment)  # type: ignore[assignment,method-assign]
    Instance.security_groups = property(_instance_groups, _set_instance_groups)  # type: ignore[assignment]
    Instance.network_interfaces = property(_interfaces)  # type: ignore[assignment,method-assign]
    Instance.detach_eni = _detach  # type: ignore[method-assign]
    Instance.terminate = _terminate  # type: ignore[method-assign]
    ec2_utils.simple_aws_filter_to_re = tags.simple_aws_filter_to_re = _filter_regex  # type: ignore[attr-defined]
    ec2_utils.instance_value_in_filter_values = _in_filter_values
    ec2_utils.filter_dict_attribute_mapping.update(
        {
            "instance-state-code": "state_code_text",
            "network-interface.network-interface-id": "interface_ids",
            "network-interface.group-id": "interface_group_ids",
            "network-interface.ipv6-addresses.ipv6-address": "interface_ipv6_addresses",
            "block-device-mapping.volume-id": "volume_ids",
            "network-interface.vpc-id": "interface_vpc_ids",
            "network-interface.subnet-id": "interface_subnet_ids",
        }
    )
    # Lists, as moto 5.1 looks at the first of several interfaces only.
    Instance.interface_ids = property(lambda self: [nic.id for nic in _interfaces(self)])  # type: ignore[attr-defined]
    Instance.interface_vpc_ids = property(lambda self: [n.subnet.vpc_id for n in _interfaces(self)])  # type: ignore[attr-defined]
    Instance.interface_subnet_ids = property(lambda self: [n.subnet.id for n in _interfaces(self)])  # type: ignore[attr-defined]
    Instance.interface_group_ids = property(_interface_group_ids)  # type: ignore[attr-defined]
    Instance.interface_ipv6_addresses = property(_ipv6_addresses)  # type: ignore[attr-defined]
    Instance.volume_ids = property(_volume_ids)  # type: ignore[attr-defined]
    Instance.private_ip = Instance.private_ip_address = property(_primary_address)  # type: ignore[assignment,method-assign]
    Instance.private_dns_name = property(_private_dns_name)  # type: ignore[assignment,method-assign]
    Instance.state_code_text = property(lambda self: str(self.state_code))  # type: ignore[attr-defined]


class Moto:
    """moto for one account, by WSGI, and its EC2 backends as objects."""

    def __init__(self, account: str, region: str) -> None:
        patch()
        self.account = account
        self.region = region
        self.app = DomainDispatcherApplication(create_backend_app)

    def backend(self, region: str = "") -> Any:
        """The EC2 backend of a region, the world's by default."""
        return ec2_backends[self.account][region or self.region]

    def known(self, region: str) -> bool:
        """Whether there is such a region."""
        return region in ec2_backends[self.account].regions

    def reset(self) -> None:
        """Empties all regions of the account."""
        for backend in list(ec2_backends[self.account].values()):
            backend.reset()
        reset_model_data()

    @staticmethod
    def reservations(backend: Any, ids: List[str], filters: Mapping[str, List[str]]) -> List[Any]:
        """What moto finds for DescribeInstances; nothing where it refuses the call."""
        try:
            if ids:
                return list(backend.get_reservations_by_instance_ids(ids, filters=filters))
            return list(backend.describe_instances(filters=filters))
        except (NotImplementedError, KeyError, EC2ClientError):
            return []

    def call(self, service: str, action: str, params: Params, region: str = "", key_id: str = "AKIA") -> Reply:
        """Makes a call and returns moto's answer; NotImplementedError where moto cannot."""
        version = "2011-06-15" if service == "sts" else "2016-11-15"
        body = urlencode({"Action": action, "Version": version, **params}).encode()
        seen: Dict[str, Any] = {}

        def start(status: str, headers: Any, exc_info: Any = None) -> Any:
            seen["status"] = int(status.split(maxsplit=1)[0])

        chunks = self.app(self._environ(service, body, region or self.region, key_id), start)
        try:
            text = b"".join(chunks)
        finally:
            if hasattr(chunks, "close"):
                chunks.close()
        code = ERROR_CODE.search(text) if seen["status"] >= 400 else None
        return Reply(seen["status"], text, code.group(1).decode() if code else None)

    def _environ(self, service: str, body: bytes, region: str, key_id: str) -> Dict[str, Any]:
        credential = f"{key_id}/20200101/{region}/{service}/aws4_request"
        return {
            "REQUEST_METHOD": "POST",
            "SCRIPT_NAME": "",
            "PATH_INFO": "/",
            "QUERY_STRING": "",
            "CONTENT_TYPE": "application/x-www-form-urlencoded; charset=utf-8",
            "CONTENT_LENGTH": str(len(body)),
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "127.0.0.1",
            "HTTP_AUTHORIZATION": f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=h, Signature=0",
            "HTTP_X_MOTO_ACCOUNT_ID": self.account,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
