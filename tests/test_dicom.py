"""CT slices become a volume whose every voxel lies where the file says, or a refusal that measures what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from written_dicom import AXIAL, OBLIQUE, SHAPE, SPACING, ct_slice, field_hu, reread, write, write_ct

from volumes.study import read_study
from volumes.volume import SeriesError, Volume

ROUNDING_HU = 0.26  # slope 0.5, rounded


def read(folder: Path) -> Volume:
    volume = read_study(folder).main_series().read()
    assert isinstance(volume, Volume)
    return volume


def assert_field(volume: Volume, tolerance_hu: float = ROUNDING_HU) -> None:
    axes = [np.arange(n) for n in volume.shape]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    error = np.abs(volume.voxels.numpy() - field_hu(volume.index_to_mm(index).numpy()))
    assert float(error.max()) < tolerance_hu


CORONAL, SAGITTAL = (1.0, 0, 0, 0, 0, -1.0), (0, 1.0, 0, 0, 0, -1.0)
PRONE_FEET_FIRST = (-1.0, 0, 0, 0, 1.0, 0)


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, SAGITTAL, OBLIQUE, PRONE_FEET_FIRST])
def test_every_voxel_holds_the_value_of_its_place(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    volume = read(write_ct(tmp_path, orientation=orientation))

    assert (volume.unit, volume.shape) == ("HU", (5, *SHAPE))
    assert volume.spacing_mm == pytest.approx((2.0, *SPACING))
    assert_field(volume)


def test_descending_positions_thickness_and_names_do_not_matter(tmp_path: Path) -> None:
    folder = write_ct(tmp_path, (8, 0, 6, 2, 4), SliceThickness=9.0, SpacingBetweenSlices=-3.0)

    volume = read(folder)

    assert_field(volume)
    heights = [reread(p) for p in folder.iterdir()]
    expected = [d.SOPInstanceUID for d in sorted(heights, key=lambda d: float(d.ImagePositionPatient[2]))]
    assert list(volume.source.sop_uids) == expected


def test_a_tilted_gantry_is_kept_as_shear_and_said(tmp_path: Path) -> None:
    for n in range(5):
        write(tmp_path / f"{n}.dcm", ct_slice(2.0 * n, AXIAL, shift=(0, 0.8 * n, 0)))

    volume = read(tmp_path)

    assert_field(volume)
    assert any("21.8 degrees" in note and "sheared" in note for note in volume.notes)


def test_small_jitter_and_rounded_cosines_are_accepted(tmp_path: Path) -> None:
    for n, jitter in enumerate((0, 0.02, -0.02, 0.01, 0)):
        rounded = tuple(round(v, 4) for v in OBLIQUE)
        write(tmp_path / f"{n}.dcm", ct_slice(2.0 * n + jitter, rounded))

    assert_field(read(tmp_path), 0.6)


@pytest.mark.parametrize(
    ("distances", "reason", "told"),
    [
        ((0, 2, 6), "missing-slice", r"2\.00 to 4\.00 mm apart.*about 1 slice\(s\) of 4 are missing"),
        ((0, 2, 4, 6, 12, 14), "missing-slice", r"2\.00 to 6\.00 mm apart.*about 2 slice\(s\).*follows slice 4"),
        ((0, 1, 2.5, 4.3, 5), "variable-spacing", r"0\.70 to 1\.80 mm apart"),
    ],
)
def test_gaps_are_refused_and_measured(tmp_path: Path, distances: tuple[float, ...], reason: str, told: str) -> None:
    with pytest.raises(SeriesError, match=told) as refused:
        read(write_ct(tmp_path, distances))
    assert refused.value.reason == reason
    assert "Secret" not in str(refused.value)


def test_an_equal_double_is_dropped_with_a_note(tmp_path: Path) -> None:
    write_ct(tmp_path)
    write(tmp_path / "again.dcm", ct_slice(4.0))

    volume = read(tmp_path)

    assert volume.shape[0] == 5
    assert "1 duplicate slice(s) with identical pixels dropped" in volume.notes


def test_a_double_with_other_pixels_is_refused(tmp_path: Path) -> None:
    write_ct(tmp_path)
    other = ct_slice(4.0)
    other.PixelData = bytes(len(other.PixelData))
    write(tmp_path / "again.dcm", other)

    with pytest.raises(SeriesError, match=r"2 images with different pixels lie at \(") as refused:
        read(tmp_path)
    assert refused.value.reason == "duplicate-position"


def test_a_truncated_slice_refuses_the_series(tmp_path: Path) -> None:
    folder = write_ct(tmp_path)
    victim = sorted(folder.iterdir())[2]
    victim.write_bytes(victim.read_bytes()[:-40])

    with pytest.raises(SeriesError, match=r"5 files.*truncated or damaged"):
        read(folder)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"])
def test_compressed_slices_give_the_same_volume(tmp_path: Path, syntax: str) -> None:
    for n in range(3):
        write(tmp_path / f"{n}.dcm", ct_slice(2.0 * n), syntax)

    assert_field(read(tmp_path))


def test_an_unknown_transfer_syntax_is_named(tmp_path: Path) -> None:
    for n in range(2):
        path = write(tmp_path / f"{n}.dcm", ct_slice(2.0 * n))
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0"))

    with pytest.raises(SeriesError, match=r"1\.2\.840\.10008\.1\.2\.9.*Explicit VR Little Endian") as refused:
        read(tmp_path)
    assert refused.value.reason == "transfer-syntax"


def test_rescale_is_per_slice_and_overlay_bits_are_removed(tmp_path: Path) -> None:
    for n, slope in enumerate((0.5, 0.25, 1.0)):
        dataset = ct_slice(2.0 * n, RescaleSlope=slope)
        stored = np.frombuffer(dataset.PixelData, np.uint16)
        assert stored.max() < 2**14
        dataset.PixelData = (stored | 0x8000).tobytes()  # an overlay in the highest bit
        dataset.BitsStored, dataset.HighBit = 14, 13
        write(tmp_path / f"{n}.dcm", dataset)

    assert_field(read(tmp_path), 0.51)


def test_twelve_signed_bits_keep_their_sign(tmp_path: Path) -> None:
    truth = np.arange(-700, SHAPE[0] * SHAPE[1] - 700, dtype=np.int16).reshape(SHAPE)
    for n in range(2):
        dataset = ct_slice(2.0 * n)
        dataset.PixelData = (truth.view(np.uint16) & 0x0FFF).tobytes()
        dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = 1, 12, 11
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
        write(tmp_path / f"{n}.dcm", dataset)

    assert np.array_equal(read(tmp_path).voxels[1].numpy(), truth)


def test_a_ct_without_rescale_has_no_unit(tmp_path: Path) -> None:
    for n in range(2):
        dataset = ct_slice(2.0 * n)
        del dataset.RescaleSlope, dataset.RescaleIntercept
        write(tmp_path / f"{n}.dcm", dataset)

    volume = read(tmp_path)

    assert volume.unit == "raw"
    assert any("does not state a rescale" in note for note in volume.notes)


def test_slices_without_a_position_get_no_made_up_place(tmp_path: Path) -> None:
    for n in range(2):
        dataset = ct_slice(2.0 * n)
        del dataset.ImagePositionPatient
        write(tmp_path / f"{n}.dcm", dataset)

    with pytest.raises(SeriesError, match=r"has no ImagePositionPatient: its place in the patient is unknown"):
        read(tmp_path)


def test_a_single_slice_takes_its_depth_from_thickness_and_says_so(tmp_path: Path) -> None:
    volume = read(write_ct(tmp_path, (0,)))

    assert volume.spacing_mm[0] == pytest.approx(3.0)
    assert any("SliceThickness, 3.00 mm" in note for note in volume.notes)


def multiframe(distances: tuple[float, ...]) -> Dataset:
    slices = [ct_slice(d) for d in distances]
    whole = ct_slice(0.0)
    whole.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(whole, name)
    shared, plane, measures = Dataset(), Dataset(), Dataset()
    plane.ImageOrientationPatient = slices[0].ImageOrientationPatient
    measures.PixelSpacing = slices[0].PixelSpacing
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = Sequence([plane]), Sequence([measures])
    frames = []
    for one in slices:
        frame, position, values = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = one.ImagePositionPatient
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = one.RescaleSlope, one.RescaleIntercept, "HU"
        frame.PlanePositionSequence = Sequence([position])
        frame.PixelValueTransformationSequence = Sequence([values])
        frames.append(frame)
    whole.SharedFunctionalGroupsSequence = Sequence([shared])
    whole.PerFrameFunctionalGroupsSequence = Sequence(frames)
    whole.NumberOfFrames = len(slices)
    whole.PixelData = b"".join(one.PixelData for one in slices)
    return whole


def test_an_enhanced_multiframe_is_placed_by_its_functional_groups(tmp_path: Path) -> None:
    write(tmp_path / "one.dcm", multiframe((4, 0, 6, 2)))

    volume = read(tmp_path)

    assert (volume.shape[0], volume.unit) == (4, "HU")
    assert_field(volume)


def test_frames_at_one_place_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "one.dcm", multiframe((0, 2, 0, 2)))

    with pytest.raises(SeriesError, match="several frames lie at one place"):
        read(tmp_path)


def test_pet_says_that_it_is_not_suv(tmp_path: Path) -> None:
    volume = read(write_ct(tmp_path, Modality="PT"))

    assert volume.unit == "raw"
    assert any("not converted to SUV" in note for note in volume.notes)


def test_a_real_chest_ct_is_placed_and_in_hu(real_data: Path) -> None:
    volume = read(real_data / "dicom_series" / "chest_ct_LUNG1-001.zip")

    assert (volume.shape, volume.orientation, volume.unit) == ((134, 512, 512), "SPL", "HU")
    assert volume.spacing_mm == pytest.approx((3.0, 0.9766, 0.9766), abs=1e-3)
    assert float(volume.voxels[67, 250:260, 130:140].mean()) < -500  # the patient's right lung


def test_one_slice_in_many_transfer_syntaxes_is_one_image(real_data: Path) -> None:
    folder = real_data / "dicom_odd" / "transfer_syntax"
    lossless = ("BigEndian", "Deflated", "JPEG2000LosslessOnly", "JPEGLSLossless", "LittleEndianImplicit", "RLE")
    reference = read(next(folder.glob("CTImage*LittleEndianExplicit*"))).voxels

    for name in lossless:
        assert np.array_equal(read(next(folder.glob(f"CTImage.dcm_{name}*"))).voxels, reference), name


def test_real_odd_geometry_is_kept_split_or_refused(real_data: Path) -> None:
    folder = real_data / "dicom_odd" / "geometry"

    assert "14.0 degrees" in " ".join(read(folder / "gantrytilting").notes)
    with pytest.raises(SeriesError, match=r"5\.00 to 10\.00 mm apart"):
        read(folder / "sliceincrement_001")
    assert sorted(s.n_instances for s in read_study(folder / "sliceorientation").series) == [2, 2]
