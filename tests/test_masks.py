"""Masks: SEG segments and RTSTRUCT contours land on the grid of their image, voxel by voxel, or are refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid
from written_dicom import OBLIQUE, SERIES_UID, STUDY_UID, ct_slice, write, write_ct

from volumes.contours import rasterise
from volumes.masks import Mask, read_masks
from volumes.nifti import read_nifti
from volumes.segment_writer import Maker, write_segmentation
from volumes.study import Study, read_studies, read_study
from volumes.volume import Volume, VolumeError

FRAME = "1.2.826.0.1.9.2"


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return read_study(write_ct(tmp_path / "ct", distances_mm=(0, 2, 4, 6, 8, 10)))


def blob(image: Volume, seed: int = 0) -> torch.Tensor:
    """A mask that is no symmetric shape, so that any flip or shift shows."""
    generator = np.random.default_rng(seed)
    mask = np.zeros(image.shape, dtype=bool)
    mask[1:4, 5:20, 3:11] = generator.random((3, 15, 8)) > 0.3
    mask[3, 30, 33] = mask[5, 40, 0] = True
    return torch.from_numpy(mask)


def structure_set(path: Path, contours: dict[str, list[tuple[str, np.ndarray]]], frame: str = FRAME) -> Path:
    """An RTSTRUCT of named structures, each of (geometric type, points (N, 3) in mm)."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.481.3", generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY_UID, generate_uid()
    dataset.PatientID, dataset.Modality = "MRN-0042", "RTSTRUCT"
    series, study, reference = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID, series.ContourImageSequence = SERIES_UID, Sequence()
    study.RTReferencedSeriesSequence = Sequence([series])
    reference.FrameOfReferenceUID, reference.RTReferencedStudySequence = frame, Sequence([study])
    dataset.ReferencedFrameOfReferenceSequence = Sequence([reference])
    rois, drawn = [], []
    for number, (name, items) in enumerate(contours.items(), 3):
        roi, group = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ROIGenerationAlgorithm = number, name, "MANUAL"
        roi.ReferencedFrameOfReferenceUID = frame
        group.ReferencedROINumber, group.ContourSequence = number, Sequence()
        for kind, points in items:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = kind, len(points)
            contour.ContourData = [f"{v:.6f}" for v in points.ravel()]
            group.ContourSequence.append(contour)
        rois.append(roi)
        drawn.append(group)
    dataset.StructureSetROISequence, dataset.ROIContourSequence = Sequence(rois), Sequence(drawn)
    return write(path, dataset)


def ring(image: Volume, k: float, low: float, high: float) -> np.ndarray:
    """A rectangle around pixels low..high of slice k, in mm; edges lie between pixel centres."""
    corners = [(k, low, low), (k, low, high), (k, high, high), (k, high, low)]
    return image.index_to_mm(torch.tensor(corners, dtype=torch.float64)).numpy()


def rows_of(mask: Mask, k: int) -> set[int]:
    return set(np.flatnonzero(mask.voxels[k].any(1).numpy()).tolist())


def test_an_oblique_segmentation_comes_back_voxel_by_voxel(study: Study, tmp_path: Path) -> None:
    series = study.main_series()
    image = series.read()
    first, second = blob(image, 1), blob(image, 2)

    write_segmentation(tmp_path / "seg.dcm", {"Left lung": first, "Thing": second}, image, series.instances)
    found = read_masks(tmp_path / "seg.dcm", image)

    assert list(found) == ["Left lung", "Thing"]
    assert torch.equal(found["Left lung"].voxels, first)
    assert torch.equal(found["Thing"].voxels, second)
    assert (found["Left lung"].meaning, found["Left lung"].number) == ("Lung", 1)
    assert (found["Thing"].meaning, found["Thing"].algorithm) == ("Tissue", "AUTOMATIC")
    assert found["Thing"].notes == ()
    assert found["Thing"].volume_ml(image) == pytest.approx(int(second.sum()) * 0.8 * 0.5 * 2 / 1000)


def test_a_tilted_stack_keeps_its_masks(tmp_path: Path) -> None:
    folder = tmp_path / "ct"
    lean = np.array([0.0, 0.0, 1.0])  # slices follow a line that is not their normal: a tilted gantry
    for number, distance in enumerate((0.0, 2.0, 4.0, 6.0, 8.0, 10.0)):
        write(folder / f"{number}.dcm", ct_slice(distance, shift=tuple(lean * distance * 0.3)))
    series = read_study(folder).main_series()
    image = series.read()
    mask = blob(image)

    write_segmentation(tmp_path / "seg.dcm", {"a": mask}, image, series.instances)

    assert any("sheared" in note for note in image.notes)
    assert torch.equal(read_masks(tmp_path / "seg.dcm", image)["a"].voxels, mask)


def test_fractions_survive_and_half_counts_as_inside(study: Study, tmp_path: Path) -> None:
    series = study.main_series()
    image = series.read()
    fraction = torch.zeros(image.shape)
    fraction[2, 7, 9], fraction[2, 7, 10], fraction[4, 1, 1] = 1.0, 128 / 255, 64 / 255
    mask = Mask("f", fraction >= 0.5, fraction=fraction)

    write_segmentation(tmp_path / "seg.dcm", {"f": mask}, image, series.instances, kind="FRACTIONAL")
    found = read_masks(tmp_path / "seg.dcm", image)["f"]

    assert found.fraction is not None
    torch.testing.assert_close(found.fraction, fraction, atol=1e-6, rtol=0)
    assert int(found.voxels.sum()) == 2


def test_a_cropped_flipped_and_transposed_grid_is_placed_exactly(study: Study, tmp_path: Path) -> None:
    series = study.main_series()
    image = series.read()
    mask = blob(image)
    path = tmp_path / "seg.dcm"
    write_segmentation(path, {"a": mask}, image, series.instances)
    edited = pydicom.dcmread(path)
    frames = edited.pixel_array.reshape(-1, *image.shape[1:])
    rows, columns = slice(3, 41), slice(2, 35)
    cut = np.ascontiguousarray(frames[:, rows, columns][:, ::-1].transpose(0, 2, 1))
    down, right = -np.array(OBLIQUE[3:]), np.array(OBLIQUE[:3])
    for group in edited.PerFrameFunctionalGroupsSequence:
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        position = position + 40 * 0.8 * np.array(OBLIQUE[3:]) + 2 * 0.5 * right
        group.PlanePositionSequence[0].ImagePositionPatient = [f"{v:.5f}" for v in position]
    shared = edited.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [f"{v:.9f}" for v in (*down, *right)]
    shared.PixelMeasuresSequence[0].PixelSpacing = [0.5, 0.8]
    edited.Rows, edited.Columns = cut.shape[1:]
    edited.PixelData = np.packbits(cut.ravel(), bitorder="little").tobytes() + b"\0" * (cut.size // 8 % 2)
    edited.save_as(path)

    found = read_masks(path, image)["a"]
    expected = mask.clone()
    expected[:, :3], expected[:, :, :2], expected[:, :, 35:] = False, False, False

    assert torch.equal(found.voxels, expected)
    assert found.notes == ()


def test_another_grid_is_resampled_and_says_so(study: Study, tmp_path: Path) -> None:
    series = study.main_series()
    image = series.read()
    half = torch.zeros(image.shape, dtype=torch.bool)
    half[:, 10:30, 10:30] = True
    write_segmentation(tmp_path / "seg.dcm", {"a": half}, image, series.instances)
    finer = torch.diag(torch.tensor([0.7, 0.6, 0.8, 1.0], dtype=torch.float64))
    coarse = Volume(torch.zeros(8, 60, 40), image.affine @ finer, image.unit, image.source)

    found = read_masks(tmp_path / "seg.dcm", coarse)["a"]

    index = torch.stack(torch.meshgrid(*[torch.arange(n) for n in coarse.shape], indexing="ij"), -1)
    place = torch.floor(image.mm_to_index(coarse.index_to_mm(index)) + 0.5).long()
    inside = ((place >= torch.tensor([0, 10, 10])) & (place < torch.tensor([6, 30, 30]))).all(-1)
    assert torch.equal(found.voxels, inside)
    assert "resampled to the nearest voxel" in found.notes[0]


def test_objects_of_other_images_are_refused_by_name(study: Study, tmp_path: Path) -> None:
    series = study.main_series()
    image = series.read()
    path = tmp_path / "seg.dcm"
    write_segmentation(path, {"a": blob(image)}, image, series.instances)
    other = pydicom.dcmread(path)
    other.FrameOfReferenceUID = "1.2.3.4.5"
    other.save_as(tmp_path / "frame.dcm")
    other.FrameOfReferenceUID = FRAME
    other.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3.4"
    for item in other.ReferencedSeriesSequence[0].ReferencedInstanceSequence:
        item.ReferencedSOPInstanceUID = generate_uid()
    other.save_as(tmp_path / "series.dcm")

    with pytest.raises(VolumeError, match=r"lies in the frame of reference 1\.2\.3\.4\.5, the image in"):
        read_masks(tmp_path / "frame.dcm", image)
    with pytest.raises(VolumeError, match=r"drawn on series 1\.2\.3\.4, not on .*drawn_on='frame-of-reference'"):
        read_masks(tmp_path / "series.dcm", image)
    assert list(read_masks(tmp_path / "series.dcm", image, drawn_on="frame-of-reference")) == ["a"]
    assert torch.equal(read_masks(tmp_path / "frame.dcm", image, drawn_on="anything")["a"].voxels, blob(image))


def test_contours_fill_pixel_centres_and_holes_stay_empty(study: Study, tmp_path: Path) -> None:
    image = study.main_series().read()
    keyhole_out, keyhole_in = ring(image, 2, 4.5, 20.5), ring(image, 2, 8.5, 12.5)
    keyhole = np.concatenate([keyhole_out, keyhole_out[:1], keyhole_in, keyhole_in[:1]])
    path = structure_set(
        tmp_path / "rs.dcm",
        {
            "nested": [("CLOSED_PLANAR", ring(image, 1, 4.5, 20.5)), ("CLOSED_PLANAR", ring(image, 1, 8.5, 12.5))],
            "keyhole": [("CLOSED_PLANAR", keyhole)],
            "between": [("CLOSED_PLANAR", ring(image, 3.4, 4.5, 6.5)), ("CLOSED_PLANAR", ring(image, 7.9, 4.5, 6.5))],
            "point": [("POINT", ring(image, 1, 3, 4)[:1])],
        },
    )

    found = read_masks(path, image)

    square = np.zeros(image.shape[1:], dtype=bool)
    square[5:21, 5:21] = True
    square[9:13, 9:13] = False
    assert np.array_equal(found["nested"].voxels[1].numpy(), square)
    assert np.array_equal(found["keyhole"].voxels[2].numpy(), square)
    assert int(found["nested"].voxels.sum()) == int(found["keyhole"].voxels.sum()) == 16 * 16 - 16
    assert rows_of(found["between"], 3) == {5, 6}
    assert "0.40 slices off the centre" in " ".join(found["between"].notes)
    assert "1 contour planes lie outside the image" in " ".join(found["between"].notes)
    assert "point" not in found
    assert "structure 'point': it has no closed contour (contours: 1 of POINT)" in found.refusals[0].message


def test_a_structure_of_another_frame_of_reference_is_left_out_and_named(study: Study, tmp_path: Path) -> None:
    image = study.main_series().read()
    box = [("CLOSED_PLANAR", ring(image, 1, 4.5, 20.5))]
    path = structure_set(tmp_path / "rs.dcm", {"here": box, "there": box})
    edited = pydicom.dcmread(path)
    edited.StructureSetROISequence[1].ReferencedFrameOfReferenceUID = "1.2.3.4.5"
    edited.save_as(path)

    found = read_masks(path, image)

    assert list(found) == ["here"]
    assert "structure 'there': it lies in the frame of reference 1.2.3.4.5" in found.refusals[0].message
    assert list(read_masks(path, image, drawn_on="anything")) == ["here", "there"]


def test_masks_can_be_named_and_too_many_are_refused(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = study.main_series()
    image = series.read()
    write_segmentation(tmp_path / "seg.dcm", {"a": blob(image), "b": blob(image)}, image, series.instances)
    box = [("CLOSED_PLANAR", ring(image, 1, 4.5, 20.5))]
    structure_set(tmp_path / "rs.dcm", {"c": box, "d": box})

    monkeypatch.setattr("volumes.masks.MAX_MASK_BYTES", image.voxels.numel())
    for name, other in (("seg.dcm", "b"), ("rs.dcm", "d")):
        assert list(read_masks(tmp_path / name, image, only=[other])) == [other]
        with pytest.raises(VolumeError, match=r"holds 2 masks, which take \d+ bytes.*Name the ones to read with only="):
            read_masks(tmp_path / name, image)
    with pytest.raises(VolumeError, match="none is called z"):
        read_masks(tmp_path / "seg.dcm", image, only=["z"])


def test_many_edges_are_filled_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    circle = np.stack([0 * angles + 1, 20 + 15.3 * np.sin(angles), 17 + 14.1 * np.cos(angles)], axis=1)
    whole, _ = rasterise([circle], (3, 41, 37))

    monkeypatch.setattr("volumes.contours._CROSSINGS", 41 * 7)

    assert np.array_equal(rasterise([circle], (3, 41, 37))[0], whole)
    assert int(whole.sum()) == pytest.approx(np.pi * 15.3 * 14.1, rel=0.02)


def test_a_contour_across_the_slices_is_refused_unless_it_follows_rows_or_columns() -> None:
    flat = np.array([(1.0, 4.0, 0.5), (1.0, 4.0, 6.5), (5.0, 4.0, 6.5), (5.0, 4.0, 0.5)])

    voxels, _ = rasterise([flat - [0.5, 0, 0]], (7, 9, 8))
    assert voxels[1:5, 4, 1:7].all()
    assert int(voxels.sum()) == 4 * 6
    with pytest.raises(VolumeError, match=r"rises by 4\.00 slices, 2\.00 rows and 6\.00 columns"):
        rasterise([flat + np.array([(0, 0, 0), (0, 1, 0), (0, 2, 0), (0, 1, 0)])], (7, 9, 8))


def test_structures_that_share_an_edge_share_no_pixel_and_leave_none_out() -> None:
    def box(low: int, high: int) -> np.ndarray:
        return np.array([(0, 1, low), (0, 1, high), (0, 5, high), (0, 5, low)], dtype=float)  # edges on pixel centres

    left, right = (rasterise([b], (1, 7, 9))[0] for b in (box(1, 4), box(4, 8)))

    assert not (left & right).any()
    assert (left | right)[0, 1:5, 1:8].all()


def test_even_odd_agrees_with_an_independent_point_in_polygon() -> None:
    from matplotlib.path import Path as Polygon

    generator = np.random.default_rng(5)
    angles = np.sort(generator.uniform(0, 2 * np.pi, 40))
    radii = generator.uniform(4, 14, 40)
    star = np.stack([17 + radii * np.sin(angles), 16 + radii * np.cos(angles)], axis=1)

    found = rasterise([np.insert(star, 0, 2.0, axis=1)], (4, 35, 33))[0][2]

    centres = np.stack(np.meshgrid(np.arange(35), np.arange(33), indexing="ij"), -1).reshape(-1, 2)
    assert np.array_equal(found.ravel(), Polygon(star).contains_points(centres))
    assert 100 < int(found.sum()) < 700


@pytest.mark.parametrize(("modality", "name"), [("CT", "CT"), ("MR", "MR_T1"), ("PT", "PET")])
def test_real_contours_give_the_published_mask(real_data: Path, modality: str, name: str) -> None:
    study = read_study(real_data / "dicom_series" / "sarcoma_STS_002_ct_mr_pet_rtstruct.zip")
    image = study.main_series(modality=modality).read()
    published = read_nifti(real_data / "nifti" / "ibsi_sts" / "STS_002" / f"{name}_mask.nii.gz")

    (mask,) = read_masks(study, image).values()

    place = image.mm_to_index(published.index_to_mm(torch.nonzero(published.voxels > 0)))
    assert float((place - place.round()).abs().max()) < 1e-3
    truth = torch.zeros(image.shape, dtype=torch.bool)
    truth[tuple(place.round().long().T)] = True
    assert torch.equal(mask.voxels, truth)
    assert mask.meaning == "GTV"


@pytest.mark.slow
def test_real_lungs_lie_on_their_side_and_hold_air(real_data: Path) -> None:
    study = read_study(real_data / "dicom_series" / "chest_ct_LUNG1-001.zip")
    image = study.main_series().read()

    found = read_masks(study, image)

    assert list(found) == ["GTV-1", "Spinal-Cord", "Lung-Left", "Lung-Right"]
    assert {name: mask.notes for name, mask in found.items() if mask.notes} == {}
    middle = {n: image.index_to_mm(torch.nonzero(m.voxels).double().mean(0)) for n, m in found.items()}
    assert float(middle["Lung-Left"][0]) > 60 > -60 > float(middle["Lung-Right"][0])  # LPS: x grows to the left
    for side in ("Lung-Left", "Lung-Right"):
        assert float(image.voxels[found[side].voxels].median()) < -800
    assert 0 < float(image.voxels[found["Spinal-Cord"].voxels].median()) < 60
    assert int((found["Lung-Left"].voxels & found["Lung-Right"].voxels).sum()) == 0


def test_masks_of_a_multi_frame_image_come_back_once_it_names_its_frame_of_reference(
    real_data: Path, tmp_path: Path
) -> None:
    nameless = real_data / "dicom_odd" / "multiframe" / "001.dcm"
    edited = pydicom.dcmread(nameless)
    edited.FrameOfReferenceUID = FRAME
    edited.save_as(tmp_path / "image.dcm")
    series, other = (read_study(path).main_series() for path in (tmp_path / "image.dcm", nameless))
    image = series.read()
    mask = torch.zeros(image.shape, dtype=torch.bool)
    mask[2:5, 30:50, 20:70] = True
    mask[6, 3, 100] = True

    write_segmentation(tmp_path / "seg.dcm", {"Liver": mask}, image, series.instances)

    assert torch.equal(read_masks(tmp_path / "seg.dcm", image)["Liver"].voxels, mask)
    with pytest.raises(VolumeError, match="name no FrameOfReferenceUID"):
        write_segmentation(tmp_path / "b.dcm", {"a": mask}, image, other.instances)


def test_a_fractional_segmentation_of_a_real_breast_fits_its_series(real_data: Path) -> None:
    study = read_study(real_data / "dicom_series" / "breast_mr_UCSF-BR-06.zip")
    image = study.main_series().read()

    (mask,) = read_masks(study, image).values()

    assert mask.fraction is not None
    assert (mask.meaning, int(mask.voxels.sum())) == ("Breast", 82_527)
    assert int(mask.voxels.any(dim=2).any(dim=1).sum()) == 42  # as many slices as the object has frames


def test_real_segmentations_of_three_encodings_agree(real_data: Path) -> None:
    archive = real_data / "dicom_series" / "liver_ct3slice_with_seg_dcmqi.zip"
    study = next(s for s in read_studies(archive) if s.series[0].instances[0].rows == 512)
    image = study.main_series().read()

    found = read_masks(study, image)
    liver = found["Liver"].voxels
    deflated = read_masks(real_data / "dicom_odd" / "transfer_syntax" / "liver_deflate.dcm", image)
    packed = read_masks(real_data / "dicom_odd" / "broken_or_odd" / "liver_nonbyte_aligned_rle.dcm", image)

    assert int(liver.sum()) == 107_098
    assert {m.meaning for m in found.values()} == {"Liver", "Tissue", "Artery", "Capillary", "Edema", "Vein"}
    assert torch.equal(next(iter(deflated.values())).voxels, liver)
    overlap = next(iter(packed.values())).voxels  # stored with 510 x 510 pixels
    assert float((overlap & liver).sum()) / float((overlap | liver).sum()) > 0.99


def test_a_label_map_without_its_middle_frame_has_zeros_there(real_data: Path) -> None:
    archive = real_data / "dicom_series" / "liver_ct3slice_with_seg_dcmqi.zip"
    with zipfile.ZipFile(archive) as opened:
        names = [n for n in opened.namelist() if "sparse-labelmap" in n]
        uids = {pydicom.dcmread(io.BytesIO(opened.read(n)), stop_before_pixels=True).SOPInstanceUID for n in names}
    study = next(s for s in read_studies(archive) if any(o.sop_uid in uids for o in s.objects))
    image = next(s for s in study.series if s.n_instances == 3).read()

    found = read_masks([o for o in study.objects if o.sop_uid in uids], image)

    assert next(iter(found)) == "Liver"
    assert all(m.voxels.sum(dim=(1, 2)).tolist() == [315, 0, 315] for m in found.values())


def test_damaged_and_tiled_objects_are_refused(study: Study, tmp_path: Path, real_data: Path) -> None:
    series = study.main_series()
    image = series.read()
    path = tmp_path / "seg.dcm"
    write_segmentation(path, {"a": blob(image)}, image, series.instances, maker=Maker("x", "1", "MANUAL"))
    edited = pydicom.dcmread(path)
    del edited.PerFrameFunctionalGroupsSequence[-1]
    edited.save_as(tmp_path / "short.dcm")
    tiled = real_data / "dicom_odd" / "rt_seg_sr" / "seg_image_sm_control_labelmap_palette_color.dcm"

    with pytest.raises(VolumeError, match=r"frames and \d+ per-frame functional groups"):
        read_masks(tmp_path / "short.dcm", image)
    with pytest.raises(VolumeError, match="tiled segmentation of a microscopy slide"):
        read_masks(tiled, image, drawn_on="anything")
    with pytest.raises(VolumeError, match="no SEG or RTSTRUCT object is there"):
        read_masks(tmp_path / "ct", image)
