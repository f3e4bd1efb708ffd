"""What EC2 refuses and moto does not.  Each check raises ApiError and changes nothing.

The texts are those that public threads quote of the real EC2, where any does; a comment names the others.
"""

import re
from typing import Any, Dict, Iterable, List, Optional, Set, Tuple

from .wire import ApiError, Call

USER_TAGS = 50
KEY_LENGTH = 128
VALUE_LENGTH = 256
GROUPS_AT_MOST = 16
"""Groups of an interface if the account's limit is at its maximum."""
OTHER_ATTRIBUTES = {"Description", "SourceDestCheck", "Attachment"}
RESOURCE_CODES = {
    "i": ("InvalidInstanceID", "instance ID"),
    "eni": ("InvalidNetworkInterfaceID", "networkInterface ID"),
    "sg": ("InvalidGroup", "security group"),
    "vpc": ("InvalidVpcID", "vpc ID"),
    "subnet": ("InvalidSubnetID", "subnet ID"),
    "vol": ("InvalidVolume", "volume"),
}


def well_formed(prefix: str, value: str) -> bool:
    """Whether an ID has the prefix and 8 or 17 hexadecimal digits."""
    return re.fullmatch(re.escape(prefix) + r"-(?:[0-9a-f]{8}|[0-9a-f]{17})", value) is not None


def _malformed(code: str, prefix: str, value: str) -> ApiError:
    """EC2 names the expected format only if the prefix is wrong."""
    hint = "" if value.startswith(f"{prefix}-") else f' (expecting "{prefix}-...")'
    return ApiError(code, f'Invalid id: "{value}"{hint}')


def _plural(what: str, missing: List[str]) -> str:
    if len(missing) == 1:
        return f"The {what} '{missing[0]}' does not exist"
    return f"The {what}s '{', '.join(missing)}' do not exist"


def instances_exist(backend: Any, ids: Iterable[str]) -> List[Any]:
    """The instances with these IDs, without repetition."""
    wanted = list(dict.fromkeys(ids))
    for value in wanted:
        if not well_formed("i", value):
            raise _malformed("InvalidInstanceID.Malformed", "i", value)
    known = {instance.id: instance for instance in backend.all_instances()}
    missing = [value for value in wanted if value not in known]
    if missing:
        raise ApiError("InvalidInstanceID.NotFound", _plural("instance ID", missing))
    return [known[value] for value in wanted]


def groups_exist(backend: Any, ids: Iterable[str]) -> List[Any]:
    """The groups with these IDs, without repetition."""
    wanted = list(dict.fromkeys(ids))
    for value in wanted:
        if not well_formed("sg", value):
            raise _malformed("InvalidGroupId.Malformed", "sg", value)
    known = {gid: group for groups in backend.groups.values() for gid, group in groups.items()}
    missing = [value for value in wanted if value not in known]
    if missing:
        raise ApiError("InvalidGroup.NotFound", _plural("security group", missing[:1]))
    return [known[value] for value in wanted]


def interfaces_exist(backend: Any, ids: Iterable[str]) -> List[Any]:
    """The interfaces with these IDs, without repetition."""
    wanted = list(dict.fromkeys(ids))
    for value in wanted:
        if not well_formed("eni", value):
            raise _malformed("InvalidNetworkInterfaceId.Malformed", "eni", value)
    missing = [value for value in wanted if value not in backend.enis]
    if missing:
        raise ApiError("InvalidNetworkInterfaceID.NotFound", _plural("networkInterface ID", missing))
    return [backend.enis[value] for value in wanted]


def page_size(call: Call, ids: Iterable[str], parameter: str) -> Optional[int]:
    """MaxResults, 5 to 1000 and not together with IDs; None where absent."""
    text = call.params.get("MaxResults")
    if text is None:
        return None
    if list(ids):
        raise ApiError(
            "InvalidParameterCombination",
            f"The parameter {parameter} cannot be used with the parameter maxResults",
        )
    if not text.isdigit() or not 5 <= int(text) <= 1000:
        # No thread has the text for more than 1000.
        expected = "smaller than 1000" if text.isdigit() and int(text) > 1000 else "greater than 5"
        raise ApiError(
            "InvalidParameterValue",
            f"Value ( {text} ) for parameter maxResults is invalid. Expecting a value {expected}.",
        )
    return int(text)


def resources_exist(backend: Any, ids: List[str]) -> None:
    """Raises the error of the first ID's kind that is malformed or unknown."""
    if not ids:
        raise ApiError("MissingParameter", "The request must contain the parameter resourceIdSet")
    for value in ids:
        prefix = value.partition("-")[0]
        if prefix not in RESOURCE_CODES:
            raise ApiError("InvalidID", f"The ID '{value}' is not valid")
        if prefix == "i":
            instances_exist(backend, [value])
        elif prefix == "sg":
            groups_exist(backend, [value])
        elif prefix == "eni":
            interfaces_exist(backend, [value])
        elif value not in _others(backend):
            code, what = RESOURCE_CODES[prefix]
            raise ApiError(f"{code}.NotFound", _plural(what, [value]))


def may_be_changed(interface: Any) -> None:
    """Whether the account manages it; EC2 answers AuthFailure for one that a service manages."""
    if interface.requester_managed:
        raise ApiError("AuthFailure", "You do not have permission to access the specified resource.", 401)


def named_exist(backend: Any, call: Call) -> None:
    """Errors of a dry run beside the permission: EC2 looks up the resources of the call, for their tags."""
    instances_exist(backend, call.listing("InstanceId"))
    if call.action in ("CreateTags", "DeleteTags"):
        resources_exist(backend, call.listing("ResourceId"))
    if call.action == "ModifyNetworkInterfaceAttribute":
        (interface,) = interfaces_exist(backend, [call.params.get("NetworkInterfaceId", "")])
        may_be_changed(interface)
        groups_exist(backend, call.listing("SecurityGroupId"))


def _others(backend: Any) -> Set[str]:
    subnets = {sid for zone in backend.subnets.values() for sid in zone}
    return subnets | set(backend.vpcs) | set(backend.volumes)


def _reserved(key: str) -> bool:
    return key.lower().startswith("aws:")


def _tag_key(key: str) -> None:
    invalid = "InvalidParameterValue"
    if not key:
        raise ApiError(invalid, "Value ( '' ) for parameter Tag key is invalid. Tag key cannot be null or empty.")
    if len(key) > KEY_LENGTH:
        raise ApiError(invalid, f"Tag key exceeds the maximum length of {KEY_LENGTH} characters")
    if _reserved(key):
        text = "Tag keys starting with 'aws:' are reserved for internal use"
        raise ApiError(invalid, f"Value ( {key} ) for parameter key is invalid. {text}")


def tags_to_create(backend: Any, call: Call) -> Tuple[List[str], Dict[str, str]]:
    """Resources and tags of a CreateTags that EC2 would accept as a whole."""
    ids, records = call.listing("ResourceId"), call.records("Tag")
    if not records:
        raise ApiError("InvalidParameterValue", "You must specify one or more tags to create")
    tags: Dict[str, str] = {}
    for record in records:
        key, value = record.get("Key", ""), record.get("Value", "")
        _tag_key(key)
        if len(value) > VALUE_LENGTH:
            raise ApiError(
                "InvalidParameterValue", f"Tag value exceeds the maximum length of {VALUE_LENGTH} characters"
            )
        if key in tags:
            raise ApiError("InvalidParameterValue", f"Duplicate tag key '{key}' specified.")
        tags[key] = value
    resources_exist(backend, ids)
    for resource in ids:
        _room_for(backend, resource, tags)
        _metadata_keys(backend, resource, tags)
    return ids, tags


def _room_for(backend: Any, resource: str, tags: Dict[str, str]) -> None:
    present = {key for key in backend.tags.get(resource, {}) if not _reserved(key)}
    if len(present | set(tags)) > USER_TAGS:
        # The code is documented; the text is moto's.
        raise ApiError("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.")


def _metadata_keys(backend: Any, resource: str, tags: Dict[str, str]) -> None:
    """Keys that appear in the instance metadata must be usable as a path there."""
    if not resource.startswith("i-"):
        return
    (instance,) = instances_exist(backend, [resource])
    if instance.metadata_options.instance_metadata_tags != "enabled":
        return
    for key in tags:
        if key in (".", "..", "_index") or not re.fullmatch(r"[0-9a-zA-Z+\-=._,:@]{1,128}", key):
            raise ApiError(
                "InvalidParameterValue",
                f"'{key}' is not a valid tag key. Tag keys must match pattern ([0-9a-zA-Z\\-_+=,.@:]{{1,255}}), "
                "and must not be a reserved name ('.', '..', '_index')",
            )


def tags_to_delete(backend: Any, call: Call) -> Dict[str, List[str]]:
    """Keys to delete by resource: a key alone in any case, with a value where that matches, none for all."""
    ids, records = call.listing("ResourceId"), call.records("Tag")
    for record in records:
        _tag_key(record.get("Key", ""))
    resources_exist(backend, ids)
    found: Dict[str, List[str]] = {}
    for resource in ids:
        present = backend.tags.get(resource, {})
        if records:
            found[resource] = [
                r["Key"]
                for r in records
                if r["Key"] in present and ("Value" not in r or r["Value"] == present[r["Key"]])
            ]
        else:
            found[resource] = [key for key in present if not _reserved(key)]
    return found


def groups_for_interface(
    backend: Any, call: Call, limit: int, associated: Set[Tuple[str, str]]
) -> Tuple[Any, Optional[List[Any]]]:
    """The interface and its new groups (None where the call changes something else)."""
    interface_id = call.params.get("NetworkInterfaceId")
    if not interface_id:
        raise ApiError("MissingParameter", "The request must contain the parameter networkInterfaceId")
    (interface,) = interfaces_exist(backend, [interface_id])
    ids = call.listing("SecurityGroupId")
    if not ids:
        if {key.partition(".")[0] for key in call.params} & OTHER_ATTRIBUTES:
            return interface, None
        raise ApiError("MissingParameter", "The request must contain the parameter groupSet")
    may_be_changed(interface)
    groups = groups_exist(backend, ids)
    for group in groups:
        if group.vpc_id != interface.vpc_id and (group.id, interface.vpc_id) not in associated:
            text = "You have specified two resources that belong to different networks."
            raise ApiError("InvalidGroup.NotFound", text)
    if len(groups) > min(limit, GROUPS_AT_MOST):
        raise ApiError(
            "SecurityGroupsPerInterfaceLimitExceeded",
            "The maximum number of security groups per interface has been reached.",
        )
    return interface, groups
