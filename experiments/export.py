"""A run for other software: RecBole atomic files, the layout of MovieLens 100K, Hugging Face datasets, CSV, Parquet.

An interaction is a chosen impression. Its timestamp is the simulated time at which its page appeared plus one second per
place below the first, so that the order on the page survives. A folder of files appears whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from experiments.analysis.finished_run import FinishedRun
from experiments.data_card import data_card, parquet_file, splits_of
from simulator.errors import ConfigError, RunError, with_suggestion
from simulator.files import new_folder


@dataclass(frozen=True, slots=True)
class Export:
    """What was written.

    Attributes:
        folder: where; files: their names, sorted.
        simulated, real: interactions of each source that the files hold.
        left_out: interactions left out because the format holds one per person and item.
        notes: what a reader of the files must mind, a sentence each.
    """

    folder: Path
    files: tuple[str, ...]
    simulated: int
    real: int
    left_out: int = 0
    notes: tuple[str, ...] = ()


MISSING = frozenset(
    [
        "",
        "#N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "None",
        "n/a",
        "nan",
        "null",
    ]  # the first is the empty text
) | {"#N/A N/A"}
"""Texts that pandas reads as missing where nobody tells it otherwise (``pandas.read_csv``, na_values), and with it RecBole."""


def export(run_dir: Path, format: str, out: Path | None = None, *, include_real: bool = False) -> Export:
    """Writes the interactions of a complete run, its people and its items.

    Args:
        run_dir: folder of the run.
        format: "recbole", "movielens", "huggingface", "csv" or "parquet".
        out: folder to write, which must not exist yet; default ``<run>/export/<experiment>-<format>``. RecBole's files
            take the name of the folder, since RecBole looks for ``NAME/NAME.inter``.
        include_real: whether the training interactions of the same real people come first, marked ``source = real``.

    Raises:
        ConfigError: the format is unknown.
        RunError: there is no complete run, `out` exists, or the format needs something that the data lacks.
    """
    if format not in FORMATS:
        raise ConfigError(with_suggestion("format", format, FORMATS) + " Give one of them to --format.")
    run = FinishedRun(run_dir)
    target = out if out is not None else run.path / "export" / f"{run.name}-{format}"
    if target.exists():
        raise RunError(f"{target} exists already; remove it, or choose another folder with --output.")
    log = interactions(run, include_real=include_real)
    with new_folder(target, keep_other=False) as temporary:
        written = FORMATS[format](run, log, temporary, target.name)
        tables = {"interactions": written, **(_run_tables(run) if format in WITH_TABLES else {})}
        notes = _notes(run, format, tables)
        (temporary / "README.md").write_text(data_card(run, written, tables, format, target.name, notes), encoding="utf-8")
    count = dict(written.group_by("source").len().iter_rows())
    files = tuple(sorted(str(file.relative_to(target)) for file in target.rglob("*") if file.is_file()))
    return Export(target, files, count.get("simulated", 0), count.get("real", 0), log.height - written.height, notes)


def _notes(run: FinishedRun, format: str, tables: Mapping[str, pl.DataFrame]) -> tuple[str, ...]:
    """What a reader of the files must mind: empty tables that a layout cannot hold, texts that are read as missing."""
    found = []
    empty = [name for name, frame in tables.items() if frame.is_empty()]
    if format == "huggingface" and empty:
        found.append(f"Left out, because they have no rows and an empty split cannot be loaded: {', '.join(empty)}.")
    texts = {"user": run.people["user"], "item": run.items["item"]}
    if format == "recbole":
        texts = {"title": run.items["title"], "occupation": run.people["occupation"], "gender": run.people["gender"]}
    lost = {name: [value for value in column.drop_nulls().unique().sort() if value in MISSING] for name, column in texts.items()}
    told = "; ".join(f"{name} {', '.join(map(repr, values))}" for name, values in lost.items() if values)
    if told and format == "csv":
        found.append(f"pandas reads these as missing, unless it is told keep_default_na=False: {told}.")
    elif told and format in ("recbole", "movielens"):
        found.append(f"Read as missing by software that reads with pandas: {told}.")
    return tuple(found)


def interactions(run: FinishedRun, *, include_real: bool) -> pl.DataFrame:
    """The interactions of a run in order: source (real first), person, time.

    Returns:
        Columns user, item (the data's ids), rating (Float64; absent if the data has no ratings), timestamp (seconds since
        1970 UTC; null for real interactions of data without times), source ("real" or "simulated").
    """
    rating = [pl.col("rating").cast(pl.Float64)] if run.has_ratings else []
    simulated = run.chosen.sort("user", "session", "page", "position").select(
        "user", "item", *rating, timestamp=pl.col("time") + pl.col("position").cast(pl.Int64) - 1, source=pl.lit("simulated")
    )
    if not include_real:
        return simulated
    real = run.real.sort("user", "timestamp", maintain_order=True).select("user", "item", *rating, "timestamp", source=pl.lit("real"))
    return pl.concat([real, simulated])


# --- formats --------------------------------------------------------------------------------------------------------


def _recbole(run: FinishedRun, log: pl.DataFrame, folder: Path, name: str) -> pl.DataFrame:
    """Atomic files (Zhao et al., CIKM 2021): tab-separated, a type for each field in the header.

    RecBole reads them with a parser that honours quotation marks, so double ones become single. It fills an empty number
    with the mean of the column, which would invent times: the timestamp is left out where some are missing.
    """
    for column, table, values in (("user", "people.parquet", run.people["user"]), ("item", "items.parquet", run.items["item"])):
        unfit = values.filter(values.str.contains(r'[\t\r\n"]'))
        if unfit.len():
            raise RunError(
                f"{run.path / table}, column '{column}': the id {unfit[0]!r} holds a tab, line break or quotation mark, "
                "which RecBole cannot read; use another format."
            )
        missing = sorted(set(values.to_list()) & MISSING)
        if missing:
            raise RunError(
                f"{run.path / table}, column '{column}': the id {missing[0]!r} is read as missing by RecBole (as by pandas), which would "
                "leave out what belongs to it, or stop; rename it in the data, or use another format. Such texts: "
                f"{', '.join(sorted(MISSING - {''}))}."
            )
    numbers = [name for name in ("rating", "timestamp") if name in log.columns and not log[name].null_count()]
    atomic = {
        "inter": log.select(
            pl.col("user").alias("user_id:token"),
            pl.col("item").alias("item_id:token"),
            *(pl.col(number).alias(f"{number}:float") for number in numbers),
            pl.col("source").alias("source:token"),
        ),
        "user": run.people.select(
            pl.col("user").alias("user_id:token"),
            pl.col("age").alias("age:float"),
            _one_line("gender").alias("gender:token"),
            _one_line("occupation").alias("occupation:token"),
            pl.col("synthetic").cast(pl.Int8).alias("synthetic:token"),
        ),
        "item": run.items.select(
            pl.col("item").alias("item_id:token"),
            _one_line("title").alias("title:token_seq"),
            pl.col("year").alias("year:float"),
            _genre_words().list.join(" ").alias("genres:token_seq"),
        ),
    }
    for suffix, frame in atomic.items():
        # A field that is empty throughout says nothing and stops RecBole, which cannot take its mean.
        known = [column for column in frame.columns if frame[column].null_count() < frame.height or not column.endswith(":float")]
        frame.select(known).write_csv(folder / f"{name}.{suffix}", separator="\t", quote_style="never")
    return log


def _movielens(run: FinishedRun, log: pl.DataFrame, folder: Path, _name: str) -> pl.DataFrame:
    """u.data, u.item, u.user and u.genre as in MovieLens 100K, and u.real and u.simulated: the two parts of u.data.

    The layout has whole numbers for ids: others are numbered after the largest one (``user_ids.csv``, ``item_ids.csv``).
    It has one row per person and item: of several the last stays. Text is latin-1; other letters become question marks.
    """
    for column, needed in (("rating", "ratings"), ("timestamp", "a time for every interaction")):
        if column not in log.columns or log[column].null_count():
            raise RunError(f"the format movielens needs {needed}, which the data of {run.path} does not have; use recbole, csv or parquet.")
    log = log.unique(("user", "item"), keep="last", maintain_order=True)
    users, items = _numbered(run.people["user"]), _numbered(run.items["item"])
    coded = log.join(users, left_on="user", right_on="id", maintain_order="left").rename({"number": "u"})
    coded = coded.join(items, left_on="item", right_on="id", maintain_order="left").rename({"number": "i"})
    stars = pl.col("rating").cast(pl.String).str.strip_suffix(".0")
    for file, part in (("u.data", None), ("u.real", "real"), ("u.simulated", "simulated")):
        rows = coded if part is None else coded.filter(pl.col("source") == part)
        if part is None or log["source"].n_unique() > 1:
            rows.select("u", "i", stars, "timestamp").write_csv(folder / file, separator="\t", include_header=False)
    genres = ["unknown", *sorted(set(run.items.select(_genre_words().explode()).to_series().drop_nulls()) - {"unknown"})]
    year = pl.col("year").cast(pl.String)
    title = pl.coalesce(_one_line("title"), "item").str.replace_all("|", "/", literal=True)
    words = pl.col("words")
    flags = {f"genre {number}": words.list.contains(genre).cast(pl.Int8) for number, genre in enumerate(genres)}
    flags["genre 0"] = flags["genre 0"] | (words.list.len() == 0).cast(pl.Int8)
    films = run.items.with_columns(words=_genre_words()).join(items, left_on="item", right_on="id", maintain_order="left")
    films = films.select(
        "number",
        name=pl.coalesce(pl.format("{} ({})", title, year), title),
        released=pl.coalesce(pl.format("01-Jan-{}", year), pl.lit("")),
        video=pl.lit(""),
        address=pl.lit(""),
        **flags,
    )
    sex = pl.col("gender").replace({"female": "F", "male": "M"})
    word = pl.coalesce(_one_line("occupation"), pl.lit("none")).str.replace_all("|", "/", literal=True)
    people = run.people.join(users, left_on="user", right_on="id", maintain_order="left")
    people = people.select("number", "age", sex.fill_null(""), word, zip=pl.lit("00000")).sort("number")
    _latin(films.sort("number"), folder / "u.item")
    _latin(people, folder / "u.user")
    _latin(pl.DataFrame({"genre": genres, "number": range(len(genres))}), folder / "u.genre")
    for column, table in (("user", users), ("item", items)):
        if (table["id"] != table["number"].cast(pl.String)).any():
            table.write_csv(folder / f"{column}_ids.csv")
    return log


def _tables(suffix: str) -> Callable[[FinishedRun, pl.DataFrame, Path, str], pl.DataFrame]:
    def write(run: FinishedRun, log: pl.DataFrame, folder: Path, _name: str) -> pl.DataFrame:
        for name, frame in {"interactions": log, **_run_tables(run)}.items():
            if suffix == ".parquet":
                frame.write_parquet(folder / f"{name}{suffix}")
            else:
                _flat(frame).write_csv(folder / f"{name}{suffix}")
        return log

    return write


def _huggingface(run: FinishedRun, log: pl.DataFrame, folder: Path, _name: str) -> pl.DataFrame:
    """Parquet in the layout of the Hugging Face hub: a folder per table, a file per split, named in the card's header.

    ``datasets.load_dataset(FOLDER)`` reads the interactions, with the splits "simulated" and, if they are there, "real";
    ``load_dataset(FOLDER, "impressions")`` and so on the other tables, which have one split, "simulated". Tables without a row are left
    out, since an empty split cannot be loaded.
    """
    frames = {("interactions", split): log.filter(pl.col("source") == split) for split in splits_of(log)}
    frames |= {(name, "simulated"): frame for name, frame in _run_tables(run).items() if not frame.is_empty()}
    for (name, split), frame in frames.items():
        file = folder / parquet_file(name, split)
        file.parent.mkdir(exist_ok=True)
        frame.write_parquet(file)
    return log


FORMATS: Mapping[str, Callable[[FinishedRun, pl.DataFrame, Path, str], pl.DataFrame]] = {
    "recbole": _recbole,
    "movielens": _movielens,
    "huggingface": _huggingface,
    "csv": _tables(".csv"),
    "parquet": _tables(".parquet"),
}
"""Name -> function that fills a folder and returns the interactions it wrote."""

WITH_TABLES = ("huggingface", "csv", "parquet")
"""Formats that hold the run's other tables, too."""


def _run_tables(run: FinishedRun) -> dict[str, pl.DataFrame]:
    names = ("impressions", "pages", "sessions", "memories", "texts", "people", "items")
    return {name: getattr(run, name) for name in names}


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    """Lists as one text, their entries separated by '|', since CSV has no lists."""
    lists = [name for name, dtype in frame.schema.items() if dtype.base_type() is pl.List]
    return frame.with_columns(pl.col(name).cast(pl.List(pl.String)).list.join("|") for name in lists)


def _one_line(column: str) -> pl.Expr:
    """Text that cannot break a row: white space of any kind becomes one space, double quotation marks become single."""
    return pl.col(column).str.replace_all(r"[\s\x00-\x1f]+", " ").str.replace_all('"', "'", literal=True).str.strip_chars()


def _genre_words() -> pl.Expr:
    """Genres as single words: "Film Noir" becomes "Film-Noir", since the formats separate genres by spaces."""
    return pl.col("genres").list.eval(pl.element().str.replace_all(r'[\s|"]+', "-"))


def _numbered(ids: pl.Series) -> pl.DataFrame:
    """Columns id, number: whole numbers stay what they are, other ids get the numbers after the largest, in order."""
    whole = ids.str.contains(r"^(0|[1-9]\d{0,17})$")
    numbers = ids.to_frame("id").select("id", number=pl.when(pl.lit(whole)).then(pl.col("id")).cast(pl.Int64))
    after = pl.col("number").max().fill_null(0) + pl.col("number").is_null().cum_sum()
    return numbers.with_columns(pl.col("number").fill_null(after))


def _latin(table: pl.DataFrame, file: Path) -> None:
    text = table.write_csv(separator="|", include_header=False, quote_style="never")
    file.write_bytes(text.encode("latin-1", errors="replace"))
