"""Made-up trees of the Radiography Database's releases: real names and places, contents that tell files apart."""

from pathlib import Path

FIRST = {
    "COVID-19": ["COVID-19 (1).png", "COVID-19 (12).png", "COVID-19(3).png"],
    "NORMAL": ["NORMAL (1).png", "NORMAL (2).png"],
    "Viral Pneumonia": ["Viral Pneumonia (1).png"],
}
FOURTH = {
    "COVID": ["COVID-1.png", "COVID-10.png", "COVID-2.png"],
    "Normal": ["Normal-1.png", "Normal-2.png"],
    "Viral Pneumonia": ["Viral Pneumonia-1.png"],
    "Lung_Opacity": ["Lung_Opacity-1.png", "Lung_Opacity-2.png"],
}


def write(path: Path, content: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content or f"content of {path.parent.name}/{path.name}")
    return path


def first_release(folder: Path) -> Path:
    """As the first release unpacks: pictures flat, sheets and a read-me beside the class folders."""
    root = folder / "COVID-19 Radiography Database"
    for name, files in FIRST.items():
        for file in files:
            write(root / name / file)
        write(root / f"{name}.metadata.xlsx")
    write(root / "README.md.txt")
    return root


def fourth_release(folder: Path) -> Path:
    """As the fourth release unpacks: images and masks of the same names within each class."""
    root = folder / "COVID-19_Radiography_Dataset"
    for name, files in FOURTH.items():
        for file in files:
            write(root / name / "images" / file)
            write(root / name / "masks" / file)
        write(root / f"{name}.metadata.xlsx")
    write(root / "README.md.txt")
    return root


def contents(folder: Path) -> dict[str, str]:
    """Every file under `folder`, by relative path."""
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}
