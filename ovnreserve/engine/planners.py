"""Whose plan a request needs: that of the kind it is about."""

from __future__ import annotations

from collections.abc import Callable

from ovnreserve.engine.published import Published
from ovnreserve.engine.tasks import Tasks
from ovnreserve.engine.work import Apply, Create, Delete
from ovnreserve.model.errors import NotFound
from ovnreserve.model.ip import Wanted
from ovnreserve.model.owner import WantedOwner
from ovnreserve.model.pool import Pool, WantedPool
from ovnreserve.model.resource import is_fact
from ovnreserve.plan.adopt import plan_label
from ovnreserve.plan.outcome import Context, Plan
from ovnreserve.plan.owners import Scale, plan_owner, plan_scale
from ovnreserve.plan.patch import Patch
from ovnreserve.plan.pools import plan_pool, plan_pool_patch
from ovnreserve.plan.reserve import plan_apply, plan_create
from ovnreserve.plan.world import World


def planner(
    world: World, tasks: Tasks, published: Published, request: Apply | Create | Patch | Scale | Delete
) -> Callable[[Context], Plan]:
    """What makes the plan, when the request's turn comes; it raises what that raises."""
    match request:
        case Apply(Wanted() as wanted):
            return lambda context: plan_apply(world, wanted, context)
        case Create(Wanted() as wanted):
            return lambda context: plan_create(world, wanted, context)
        case Apply(WantedPool() as pool) | Create(WantedPool() as pool):
            return lambda context: plan_pool(world, pool, context, create=isinstance(request, Create))
        case Apply(WantedOwner() as owner) | Create(WantedOwner() as owner):
            return lambda context: plan_owner(world, owner, context, create=isinstance(request, Create))
        case Scale():
            return lambda context: plan_scale(world, request, context)
        case Patch(name) if is_fact(name):
            return lambda context: _patch_pool(world, request, context)
        case Patch():
            return lambda context: plan_label(world, request, context, published.born.get(name))
        case Delete(name):
            return lambda context: tasks.release(name, context, published.born.get(name))
    raise TypeError(type(request).__name__)


def _patch_pool(world: World, patch: Patch, context: Context) -> Plan:
    present = world.resource(patch.name)
    if not isinstance(present, Pool):
        raise NotFound.resource(patch.name)
    return plan_pool_patch(world, present, patch, context)
