"""Turning the axes of a volume, without interpolation: the same voxels at the same places, in another order."""

from __future__ import annotations

from volumes.volume import Volume, VolumeError

HEAD_UP = "SPL"  # k to the head, j to the back, i to the left: an axial CT as it is usually read
_OPPOSITE = dict(zip("RLAPIS", "LRPASI", strict=True))


def reorient(volume: Volume, orientation: str = HEAD_UP) -> Volume:
    """The volume with k, j and i growing towards the three letters (nearest axis); every voxel keeps its place in mm.

    Raises VolumeError when the letters are not one each of R/L, A/P and I/S.
    """
    wanted = orientation.upper()
    if sorted(min(letter, _OPPOSITE.get(letter, "?")) for letter in wanted) != ["A", "I", "L"]:
        raise VolumeError(
            f"the orientation is {orientation!r}; expected three letters, one each of R or L, A or P, I or S, such as"
            f" {HEAD_UP}",
            "bad-orientation",
        )
    have = volume.orientation
    order = [next(n for n, own in enumerate(have) if own in (letter, _OPPOSITE[letter])) for letter in wanted]
    flips = [n for n, axis in enumerate(order) if have[axis] != wanted[n]]
    voxels = volume.voxels.permute(order).flip(flips).contiguous()
    affine = volume.affine.clone()
    affine[:, :3] = volume.affine[:, order]
    for n in flips:
        affine[:3, 3] += affine[:3, n] * (voxels.shape[n] - 1)
        affine[:3, n] *= -1
    return Volume(voxels, affine, volume.unit, volume.source, volume.notes)
