"""Restores an earlier world if only tags, groups and states have changed: faster than a new one."""

from typing import Any, Dict, List, Tuple

from .shapes import interfaces_of


def _form(backend: Any) -> Any:
    """What cannot be restored: the existing instances, interfaces and groups, and the attachments."""
    attached = [(instance.id, interfaces_of(instance)) for instance in backend.all_instances()]
    groups = {(group.id, group.name) for some in backend.groups.values() for group in some.values()}
    return attached, set(backend.enis), groups


def _states(backend: Any) -> Dict[str, Tuple[str, int, str, Any, Any]]:
    return {
        i.id: (i._state.name, i._state.code, i._reason, i.state_reason, i.launch_time)
        for i in backend.all_instances()
    }


class Mark:
    """The state of a backend."""

    def __init__(self, backend: Any) -> None:
        self._form = _form(backend)
        self._states = _states(backend)
        self._tags = {resource: dict(tags) for resource, tags in backend.tags.items()}
        self._groups: Dict[str, List[Any]] = {eni.id: list(eni._group_set) for eni in backend.enis.values()}

    def restore(self, backend: Any) -> bool:
        """Restores the backend and returns True; returns False, without a change, if that is not possible."""
        if _form(backend) != self._form:
            return False
        for instance in backend.all_instances():
            state, code, instance._reason, instance.state_reason, instance.launch_time = self._states[instance.id]
            instance._state.name, instance._state.code = state, code
        backend.tags.clear()
        backend.tags.update({resource: dict(tags) for resource, tags in self._tags.items()})
        for interface, groups in self._groups.items():
            backend.enis[interface]._group_set = list(groups)
        return True
