import gzip
import struct
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from whyvae.data import Codec, DataError, load

RANDOM = np.random.default_rng(0)
BYTES = RANDOM.integers(0, 256, (40, 9, 9), dtype=np.uint8)


def idx(path, array, *, cut=0):
    content = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes((gzip.compress if path.suffix == ".gz" else bytes)(content[: len(content) - cut]))
    return str(path)


def npy(path, array):
    np.save(path, array)
    return str(path)


def png(path, array):
    from PIL import Image

    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(array).save(path)


def refused(source, **options):
    with pytest.raises(DataError) as raised:
        load(str(source), **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte", "t10k-images-idx3-ubyte.gz"])
def test_idx_as_mnist_ships_it_with_its_labels(tmp_path, name):
    labels = np.arange(40, dtype=np.uint8) % 10
    idx(tmp_path / name.replace("images", "labels").replace("idx3", "idx1"), labels)
    data = load(idx(tmp_path / name, BYTES))
    assert (data.kind, data.shape, len(data)) == ("image", (1, 9, 9), 40)
    assert torch.equal(data.take([3, 5])[:, 0], torch.tensor(BYTES[[3, 5]]).float())
    assert data.labels.tolist() == labels.tolist()


def test_one_set_of_images_is_the_same_from_every_kind_of_file(tmp_path):
    for i, image in enumerate(BYTES):
        png(tmp_path / "folder" / f"{i:03}.png", image)
    np.savez(tmp_path / "x.npz", x_train=BYTES, y_train=np.arange(40) % 3)
    torch.save(torch.tensor(BYTES), tmp_path / "x.pt")
    save_file({"images": BYTES}, tmp_path / "x.safetensors")
    sources = [tmp_path / "folder", npy(tmp_path / "x.npy", BYTES), idx(tmp_path / "x-idx3-ubyte", BYTES)]
    sources += [tmp_path / f"x.{ending}" for ending in ("npz", "pt", "safetensors")]
    read = [load(str(source)) for source in sources]
    assert {(d.kind, d.shape) for d in read} == {("image", (1, 9, 9))}
    assert all(torch.equal(d.take(slice(None)), read[0].take(slice(None))) for d in read)
    assert read[3].labels.tolist() == (np.arange(40) % 3).tolist()


def test_a_streamed_file_gives_the_same_rows_and_the_same_facts(tmp_path):
    path = npy(tmp_path / "x.npy", BYTES)
    held, streamed = load(path, stream=False), load(path, stream=True)
    assert torch.equal(held.take([7, 2]), streamed.take([7, 2]))
    assert torch.equal(held.take(slice(5, 9)), streamed.take(slice(5, 9)))
    assert np.array_equal(held.summary.std, streamed.summary.std)
    part = streamed.rows.part([1, 2, 3, 7, 5])
    assert (len(part), part.shape) == (5, (5, *held.rows.shape[1:]))
    assert np.array_equal(part[:], held.rows[[1, 2, 3, 7, 5]])
    assert np.array_equal(part.part([4, 0])[:], held.rows[[5, 1]])
    assert np.array_equal(part[3:3], held.rows[:0])
    turned = npy(tmp_path / "y.npy", np.asfortranarray(BYTES))
    assert "ascontiguousarray" in refused(turned, stream=True)


def test_channels_last_colours_are_turned(tmp_path):
    rows = RANDOM.random((40, 8, 10, 3))
    data = load(npy(tmp_path / "x.npy", rows))
    assert (data.kind, data.shape) == ("image", (3, 8, 10))
    assert torch.allclose(data.take([1]), torch.tensor(rows[[1]]).permute(0, 3, 1, 2).float())
    assert data.summary.mean[2, 4, 5] == pytest.approx(rows[:, 4, 5, 2].mean())


def test_sequences_are_channels_by_time(tmp_path):
    assert load(npy(tmp_path / "x.npy", RANDOM.normal(size=(40, 50, 3)))).shape == (3, 50)
    assert load(npy(tmp_path / "y.npy", RANDOM.normal(size=(40, 3, 50)))).shape == (3, 50)


def test_a_mixed_table_goes_to_the_model_and_back(tmp_path):
    lines = ["age,smoker,town,class"]
    lines += [f"{20 + i},{'yes' if i % 3 else 'no'},{('Bonn', 'Oslo', 'Turku')[i % 3]},{i % 2}" for i in range(40)]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    data = load(str(tmp_path / "x.csv"))
    assert [c.kind for c in data.columns] == ["numeric", "binary", "categorical"]
    assert data.columns[2].levels == ("Bonn", "Oslo", "Turku")
    assert data.labels.tolist() == [i % 2 for i in range(40)]
    assert "'class'" in data.notes[0]
    codec, rows = Codec.of(data), data.take(slice(None))
    made = codec.encode(rows)
    assert made.shape == (40, 5)
    assert torch.equal(made[:, 2:].sum(1), torch.ones(40))
    assert torch.allclose(codec.decode(made), rows, atol=1e-5)
    assert Codec.from_dict(codec.to_dict()) == codec


def test_sklearn_and_a_callable(monkeypatch, tmp_path):
    assert load("sklearn:digits").shape == (1, 8, 8)
    (tmp_path / "mine.py").write_text("import numpy as np\ndef rows():\n    return np.eye(40) + 1, range(40)\n")
    monkeypatch.chdir(tmp_path)
    data = load("mine:rows")
    assert data.shape == (40,)
    assert data.labels.tolist() == list(range(40))


# ------------------------------------------------------------------ what cannot be used is refused in one line
def test_files_that_are_damaged(tmp_path):
    assert "cut short" in refused(idx(tmp_path / "a-idx3-ubyte", BYTES, cut=10))
    for name in ("b-ubyte.gz", "c.npy", "d.npz", "e.pt", "f.safetensors"):
        (tmp_path / name).write_bytes(b"not this")
        assert name in refused(tmp_path / name)
    assert "known kind" in refused(_text(tmp_path))
    assert "does not exist" in refused(tmp_path / "nothing.npy")


def _text(folder):
    (folder / "x.txt").write_text("1 2 3")
    return folder / "x.txt"


def test_labels_are_not_rows(tmp_path):
    assert "labels" in refused(idx(tmp_path / "labels-ubyte", np.arange(40, dtype=np.uint8)))
    assert "labels" in refused(npy(tmp_path / "a.npy", np.arange(40)))
    assert "labels" in refused(npy(tmp_path / "b.npy", np.arange(40)[:, None] % 10))
    assert "one-hot" in refused(npy(tmp_path / "c.npy", np.eye(10)[np.arange(40) % 10]))


def test_labels_in_front_of_pixels(tmp_path):
    rows = np.concatenate([np.arange(80)[:, None] % 10, RANDOM.integers(0, 256, (80, 64))], 1)
    assert "first looks like labels" in refused(npy(tmp_path / "a.npy", rows))
    assert "last looks like labels" in refused(npy(tmp_path / "b.npy", rows[:, ::-1]))
    assert load(npy(tmp_path / "c.npy", rows[:, 1:])).kind == "vector"


def test_what_is_no_number(tmp_path):
    rows = RANDOM.normal(size=(40, 5))
    rows[17, 2] = np.nan
    assert "row 17" in refused(npy(tmp_path / "a.npy", rows))
    assert "every value is 3" in refused(npy(tmp_path / "b.npy", np.full((40, 5), 3.0)))
    assert "at the very least" in refused(npy(tmp_path / "c.npy", rows[:5]))
    (tmp_path / "d.csv").write_text("a,b\n" + "1,2\n" * 30 + "1,\n" + "2,3\n" * 30)
    assert "'b' has 1 empty" in refused(tmp_path / "d.csv")
    (tmp_path / "e.csv").write_text("a,b\n" + "1,2\n" * 30 + "1\n")
    assert "line 32 has 1 cells" in refused(tmp_path / "e.csv")
    (tmp_path / "f.csv").write_text("a,name\n" + "".join(f"{i},n{i}x\n" for i in range(99)))
    assert "99 different words" in refused(tmp_path / "f.csv")


def test_folders_of_images(tmp_path):
    assert "nothing" in refused(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    assert "1 other files" in refused(tmp_path)
    for i, image in enumerate(BYTES):
        png(tmp_path / f"class{i % 2}" / f"{i}.png", image)
    data = load(str(tmp_path))
    assert sorted(data.labels.tolist()) == [0] * 20 + [1] * 20
    assert "notes.txt" in data.notes[0]
    png(tmp_path / "wide.png", BYTES[0, :, :5])
    assert "wide.png" in refused(tmp_path)
    assert load(str(tmp_path), size=6).shape == (1, 6, 6)
    (tmp_path / "wide.png").write_bytes(b"no image")
    assert "wide.png cannot be read" in refused(tmp_path)


def test_missing_packages_are_named(monkeypatch, tmp_path):
    for module in ("torchvision.datasets", "datasets", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    assert "pip install torchvision" in refused("torchvision:MNIST")
    assert "pip install datasets" in refused("hf:mnist")
    assert "pip install pyarrow" in refused(tmp_path / "x.parquet")
    assert "sklearn:digits" in refused("sklearn:faces")
    assert "no array 'z'" in refused(_npz(tmp_path) + ":z")
    assert "which array" in refused(_npz(tmp_path))


def _npz(folder):
    np.savez(folder / "two.npz", a=BYTES, b=BYTES)
    return str(folder / "two.npz")


# ------------------------------------------------------------------ packages that are not needed to test us, played by stubs
class Held:
    """A data set of torchvision: downloads where it is told to."""

    def __init__(self, root, *, train=True, download=False):
        if not download:
            raise RuntimeError("Dataset not found. You can use download=True to download it")
        self.data, self.targets = torch.tensor(BYTES), list(range(40))


class Pairs:
    """One without `data`, as CelebA: `split=` and examples one by one."""

    def __init__(self, root, *, split="train", download=False):
        from PIL import Image

        self.examples = [(Image.fromarray(image), 0) for image in BYTES]

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, i):
        return self.examples[i]


def test_torchvision_by_name(monkeypatch):
    module = ModuleType("torchvision.datasets")
    module.MNIST, module.CelebA = Held, Pairs
    monkeypatch.setitem(sys.modules, "torchvision.datasets", module)
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    assert "--download" in refused("torchvision:MNIST")
    assert "has no 'MNEST'" in refused("torchvision:MNEST")
    data = load("torchvision:MNIST", download=True)
    assert (data.shape, data.labels.tolist()) == ((1, 9, 9), list(range(40)))
    assert torch.equal(load("torchvision:CelebA").take([2]), data.take([2]))


def test_a_torchvision_that_does_not_fit_torch_is_named(monkeypatch):
    def broken(_):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr("whyvae.data.raw.import_module", broken)
    assert "nms does not exist" in refused("torchvision:MNIST")


class Columns(dict):
    """A data set of Hugging Face."""

    @property
    def column_names(self):
        return list(self)


def test_hugging_face_by_name(monkeypatch):
    from PIL import Image

    asked = []

    def load_dataset(name, split, download_config):
        asked.append((name, split, download_config))
        if not download_config["local_files_only"]:
            held = Columns(image=[Image.fromarray(i) for i in BYTES], label=[0, 1] * 20)
            held.features = {"image": type("Image", (), {})(), "label": None}
        else:
            held = Columns(height=[float(i) for i in range(40)], town=["a", "b"] * 20)
            held.features = {"height": None, "town": None}
        return held

    module = ModuleType("datasets")
    module.load_dataset, module.DownloadConfig = load_dataset, dict
    monkeypatch.setitem(sys.modules, "datasets", module)
    images = load("hf:mnist", download=True)
    assert (images.shape, images.labels.tolist()) == ((1, 9, 9), [0, 1] * 20)
    assert [c.kind for c in load("hf:people").columns] == ["numeric", "binary"]
    assert asked[1] == ("people", "train", {"local_files_only": True})


def test_parquet_as_pyarrow_reads_it(monkeypatch, tmp_path):
    class Column(list):
        def to_pylist(self):
            return list(self)

    table = ModuleType("table")
    table.columns, table.column_names = [Column(range(40)), Column(["x", None] * 20)], ["a", "b"]
    module = ModuleType("pyarrow.parquet")
    module.read_table = lambda path: table
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", module)
    monkeypatch.setitem(sys.modules, "pyarrow", ModuleType("pyarrow"))
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    assert "'b' has 20 empty" in refused(tmp_path / "x.parquet")
    table.columns[1] = Column(["x", "y"] * 20)
    assert [c.kind for c in load(str(tmp_path / "x.parquet")).columns] == ["numeric", "binary"]
