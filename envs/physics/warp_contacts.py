"""Contact frames of capsules on planes as MuJoCo has them.

MuJoCo turns the first tangent of such a contact along the capsule, however steep the capsule stands
(``mjc_PlaneCapsule``, ``mju_makeFrame``). MuJoCo Warp 4.0 does so only where the capsule's axis, projected onto the
plane, is longer than 0.5, and takes a fixed tangent elsewhere. A pyramidal friction cone depends on its tangents: legs
that stand steeply, as an ant's do, had joint velocities off by up to 1.4 rad/s after one step of 200 random ones, and
have them within 2e-5 this way.
"""

# Warp's decorator has no types.
# mypy: disable-error-code="untyped-decorator"

from typing import Any

import warp as wp

_SHORT = 1e-6  # a capsule as steep as float32 can tell: its frame stays


@wp.kernel(enable_backward=False)
def _align(  # type: ignore[no-untyped-def]
    count: wp.array[int],
    room: int,
    plane: int,
    capsule: int,
    kinds: wp.array[int],
    geoms: wp.array[wp.vec2i],
    worlds: wp.array[int],
    rotations: wp.array2d[wp.mat33],
    frames: wp.array[wp.mat33],
):
    i = wp.tid()
    if i >= wp.min(count[0], room):
        return
    pair = geoms[i]
    if pair[0] < 0 or pair[1] < 0:
        return
    if kinds[pair[0]] != plane or kinds[pair[1]] != capsule:
        return
    normal = frames[i][0]
    turn = rotations[worlds[i], pair[1]]
    axis = wp.vec3(turn[0, 2], turn[1, 2], turn[2, 2])
    along = axis - normal * wp.dot(normal, axis)
    if wp.length(along) < _SHORT:
        return
    along = wp.normalize(along)
    across = wp.cross(normal, along)
    frames[i] = wp.matrix_from_rows(normal, along, across)


def align_capsules(m: Any, d: Any) -> None:
    """Turn the frames; MuJoCo Warp calls it between its collisions and its constraints (``Callback.contactfilter``)."""
    import mujoco

    wp.launch(
        _align,
        dim=d.naconmax,
        inputs=[d.nacon, d.naconmax, int(mujoco.mjtGeom.mjGEOM_PLANE), int(mujoco.mjtGeom.mjGEOM_CAPSULE)]
        + [m.geom_type, d.contact.geom, d.contact.worldid, d.geom_xmat],
        outputs=[d.contact.frame],
    )
