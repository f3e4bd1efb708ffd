"""A world that is put back as it was, where only tags, groups and states have changed: cheaper than a new one."""

from typing import Any, Dict, List, Tuple

from .shapes import interfaces_of


def _form(backend: Any) -> Any:
    """What is not put back: which instances, interfaces and groups there are, and what is attached to what."""
    attached = [(instance.id, interfaces_of(instance)) for instance in backend.all_instances()]
    groups = {(group.id, group.name) for some in backend.groups.values() for group in some.values()}
    return attached, set(backend.enis), groups


def _states(backend: Any) -> Dict[str, Tuple[str, int, str, Any]]:
    return {i.id: (i._state.name, i._state.code, i._reason, i.state_reason) for i in backend.all_instances()}


class Mark:
    """A backend at one moment."""

    def __init__(self, backend: Any) -> None:
        self._form = _form(backend)
        self._states = _states(backend)
        self._tags = {resource: dict(tags) for resource, tags in backend.tags.items()}
        self._groups: Dict[str, List[Any]] = {eni.id: list(eni._group_set) for eni in backend.enis.values()}

    def restore(self, backend: Any) -> bool:
        """Whether the backend is now as it was; if not, nothing was done."""
        if _form(backend) != self._form:
            return False
        for instance in backend.all_instances():
            state, code, instance._reason, instance.state_reason = self._states[instance.id]
            instance._state.name, instance._state.code = state, code
        backend.tags.clear()
        backend.tags.update({resource: dict(tags) for resource, tags in self._tags.items()})
        for interface, groups in self._groups.items():
            backend.enis[interface]._group_set = list(groups)
        return True
