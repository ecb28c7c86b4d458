"""`usersim benchmark`: how fast inference is here, what each part of a prompt buys, the README's table, and off-policy estimators."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.commands.options import Config, Json, Set, finite_number
from experiments.console import emit, emit_table, note
from simulator.errors import ConfigError

app = typer.Typer(
    help="Measure inference, what each part of a prompt buys, and off-policy estimators.", no_args_is_help=True, rich_markup_mode=None
)

Output = Annotated[Path | None, typer.Option("--output", help="Where the result is written [default: results/benchmarks/<name>.json].")]
Folder = Annotated[Path, typer.Argument(help="Folder with the data sets, each in a folder of its own.")]
Data = Annotated[list[str] | None, typer.Option("--data", help="This data set only; may be repeated. Others keep their figures.")]
Page = Annotated[Path | None, typer.Option("--page", help="Also write the table into this document, between its marks.")]
Quick = Annotated[bool, typer.Option("--quick", help="Less of everything; shows that it works, measures little.")]


def _check_known(given: Sequence[str] | None, known: Collection[str], sentence: str) -> None:
    """Refuses a name that is not known; `sentence` has places for the name and for what is known."""
    for name in given or ():
        if name not in known:
            raise ConfigError(sentence.format(name=name, known=", ".join(known)))


def _tell(result: Mapping[str, Any], rows: Sequence[Mapping[str, str]], title: str, target: Path, json: bool) -> None:
    """The result as JSON alone, or as a table and where it was written."""
    if json:
        emit(result, as_json=True)
        return
    emit_table(rows, as_json=False, title=title)
    note(f"written to {target}")


@app.command("inference")
def inference_command(
    people: Annotated[int, typer.Option("--people", min=20, max=100_000, help="People of the full run.")] = 1000,
    part: Annotated[
        list[str] | None, typer.Option("--part", help="Only this part; may be repeated. The others keep their figures.")
    ] = None,
    quick: Quick = False,
    output: Output = None,
    json: Json = False,
) -> None:
    """Speed, memory, fidelity and determinism of inference, side by side in one run (about 20 minutes on 2 cores)."""
    from experiments.benchmarks import inference, speed_table  # noqa: PLC0415

    _check_known(part, inference.PARTS, "there is no part '{name}' of this benchmark; allowed are: {known}.")
    parts = tuple(name for name in inference.PARTS if not part or name in part)
    result = inference.run(people, inference.QUICK if quick else inference.FULL, output or inference.OUTPUT, parts, note)
    if json:
        emit(result, as_json=True)
    else:
        machine = result["machine"]
        title = (
            f"Inference: {result['model']['name']}, format {result['model']['format']}, {machine['cores']} cores of {machine['processor']}"
        )
        emit_table(
            [{"what": what, "measured": measured, "wanted": wanted} for what, measured, wanted in speed_table.rows(result)],
            as_json=False,
            title=title,
        )
        shares = result.get("time_share", {})
        emit_table([{"part of a run": name, "share": f"{share:.1%}"} for name, share in shares.items()], as_json=False)
        note(f"written to {output or inference.OUTPUT}")
    if result["failures"]:
        raise typer.Exit(1)


@app.command("prompts")
def prompts_command(
    people: Annotated[int | None, typer.Option("--people", min=2, help="People asked [default: 60].")] = None,
    quick: Quick = False,
    output: Output = None,
    json: Json = False,
) -> None:
    """What each part of a prompt costs in tokens, and what it changes."""
    from experiments.benchmarks import prompt_parts  # noqa: PLC0415

    target = output or prompt_parts.OUTPUT
    size = prompt_parts.QUICK if quick else prompt_parts.FULL
    result = prompt_parts.run(replace(size, people=people) if people else size, target, note)
    _tell(result, result["parts"], "What each part of a prompt buys, against the default", target, json)


@app.command("variants")
def variants_command(
    config: Config = Path("movielens"),
    set_: Set = None,
    people: Annotated[int | None, typer.Option("--people", min=2, help="People judged at most [default: 100].")] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0.01, callback=finite_number, help="Of each tuning [default: 3].")
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="Only this variant; may be repeated. The others keep their figures.")
    ] = None,
    quick: Quick = False,
    output: Output = None,
    json: Json = False,
) -> None:
    """What few-shot, chain of thought, soft prompts, LoRA and vectors of items buy on held-out people; tunings are kept and resumed."""
    from experiments.benchmarks import variants  # noqa: PLC0415

    size = variants.QUICK if quick else variants.FULL
    size = replace(size, people=people or size.people, minutes=minutes or size.minutes)
    target = output or variants.OUTPUT
    result = variants.run(config, set_ or [], size, variant or [], target, note)
    if json:
        emit(result, as_json=True)
        return
    emit_table(
        variants.table(result), as_json=False, title=f"AUC on {result['judged']['people']} people; tokens and processor seconds a page"
    )
    note(f"written to {target}")


@app.command("offline-evaluation")
def offline_evaluation_command(
    vectors: Annotated[Path | None, typer.Option("--vectors", help="JSON file of inputs and expected values of estimators.")] = None,
    open_bandit: Annotated[Path | None, typer.Option("--open-bandit", help="Folder of Open Bandit's random logs (all.csv.gz).")] = None,
    action_distribution: Annotated[
        Path | None, typer.Option("--action-distribution", help="The policy to evaluate on them: .npy of shape (items, positions).")
    ] = None,
    worlds: Annotated[int, typer.Option("--worlds", min=1, help="Made-up worlds for the coverage of intervals.")] = 500,
    output: Output = None,
    json: Json = False,
) -> None:
    """Off-policy estimators: known vectors, Open Bandit, coverage of intervals, speed (about a minute)."""
    from experiments.benchmarks import offline_evaluation  # noqa: PLC0415

    target = output or offline_evaluation.OUTPUT
    result = offline_evaluation.run(vectors, open_bandit, action_distribution, worlds, target)
    emit(result, as_json=json, title="Off-policy evaluation against what is known")
    note(f"written to {target}")


@app.command("texts")
def texts_command(
    config: Config = Path("movielens"),
    set_: Set = None,
    run: Annotated[Path | None, typer.Option("--run", help="Also check the stored texts of this complete run, from its log.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the visits and of the planted faults.")] = 7,
    json: Json = False,
) -> None:
    """What the checker of texts lets through: 500 false sentences about visits, true ones, and the texts of a run (seconds)."""
    from experiments.benchmarks import stored_texts  # noqa: PLC0415

    result = stored_texts.planted(config, set_ or [], seed) | (stored_texts.of_run(run, seed) if run is not None else {})
    if json:
        emit(result, as_json=True)
        return
    emit({}, as_json=False, title="Texts", rows=[(key.replace("_", " "), str(value)) for key, value in result.items()])


@app.command("ratings")
def ratings_command(
    folder: Folder,
    surprise: Annotated[Path | None, typer.Option("--surprise", help="Python of an environment that has Surprise.")] = None,
    part: Annotated[
        list[str] | None, typer.Option("--part", help="Only this part; may be repeated. The others keep their figures.")
    ] = None,
    data: Annotated[list[str] | None, typer.Option("--data", help="Folds of this data set only; may be repeated.")] = None,
    quick: Quick = False,
    output: Output = None,
    json: Json = False,
) -> None:
    """Ratings on Surprise's folds, on other scales, with little data and where people pick what they like (about 20 minutes)."""
    from experiments.benchmarks import ratings  # noqa: PLC0415

    _check_known(part, ratings.PARTS, "there is no part '{name}' of this benchmark; allowed are: {known}.")
    target = output or ratings.OUTPUT
    parts = tuple(name for name in ratings.PARTS if not part or name in part)
    size = ratings.QUICK if quick else ratings.FULL
    size = replace(size, names=tuple(name for name in ratings.FULL.names if name in data)) if data else size
    result = ratings.run(folder, size, parts, surprise, target, note)
    _tell(result, ratings.table(result), "Ratings: errors, and drawn over real variances", target, json)


@app.command("shelf")
def shelf_command(
    folder: Annotated[Path | None, typer.Argument(help="Folder with the data sets, each in a folder of its own.")] = None,
    data: Data = None,
    users: Annotated[
        list[int] | None, typer.Option("--users", min=1, help="A random subsample of so many users instead of everybody; may be repeated.")
    ] = None,
    page: Page = None,
    output: Output = None,
    json: Json = False,
) -> None:
    """Simulated users on many data sets, beside tuned baselines, with no setting that differs (about 40 minutes)."""
    from experiments import marked_tables  # noqa: PLC0415
    from experiments.fidelity import shelf  # noqa: PLC0415

    _check_known(data, shelf.SETS, "there is no data set '{name}' on the shelf; it has: {known}.")
    target = output or (shelf.SUBSAMPLES if users else shelf.OUTPUT)
    if folder is None and page is None:
        raise ConfigError("give the folder with the data sets, or --page to write the table of what was measured.")
    names = () if folder is None else tuple(name for name in shelf.SETS if not data or name in data)
    result = shelf.run(folder or Path(), names, target, note, users or ())
    if page is not None:
        marked_tables.write(page, shelf.START, shelf.END, shelf.table(result))
    _tell(result, shelf.table(result), "The shelf: held-out users, beside the best of counts, biases, ItemKNN and EASE", target, json)


@app.command("language")
def language_command(
    folder: Annotated[Path | None, typer.Argument(help="Folder with the data sets that have no download, each in a folder.")] = None,
    parts: Annotated[
        str | None, typer.Option("--parts", help="Some of choices,satisfaction,texts,notes,cold-items,run [default: all].")
    ] = None,
    data: Data = None,
    people: Annotated[int, typer.Option("--people", min=1, help="Held-out users at most.")] = 500,
    cold_people: Annotated[int, typer.Option("--cold-people", min=0, help="Users asked about new items; 0 asks the model none.")] = 150,
    bootstrap: Annotated[int, typer.Option("--bootstrap", min=10, help="Resamples of users behind every interval.")] = 500,
    run: Annotated[Path | None, typer.Option("--run", help="Read this complete run instead of simulating `movielens`.")] = None,
    server: Annotated[str | None, typer.Option("--server", metavar="URL", help="Ask a model behind an OpenAI-compatible server.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Its name on the server.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of planted faults and of the texts that are checked.")] = 7,
    set_: Set = None,
    output: Output = None,
    json: Json = False,
) -> None:
    """All that the language model adds to the users, and what it does not; also for a model of your own (--server, --set)."""
    from experiments.benchmarks import language  # noqa: PLC0415
    from experiments.benchmarks.language_parts import Wanted  # noqa: PLC0415
    from experiments.commands.fidelity import reporting  # noqa: PLC0415
    from experiments.fidelity import cold_items  # noqa: PLC0415

    known = tuple(dict.fromkeys((*language.DATA, *cold_items.SETS)))
    _check_known(data, known, "there is no data set '{name}' here; allowed are: {known}.")
    if model is not None and server is None:
        raise ConfigError("--model names a model on a server; name the server with --server.")
    settings = [*([language.server(server, model)] if server is not None else []), *(set_ or [])]
    some, target = language.parts_named(parts), output or language.OUTPUT
    with reporting() as report:
        wanted = Wanted(folder, run, people, cold_people, bootstrap, seed, settings, report)
        result = language.run(wanted, some, tuple(name for name in known if not data or name in data), target)
    _tell(result, language.table(result), "What the language model adds, [95 %] over users", target, json)
    if not json:
        for part, reason in result["not_run"].items():
            note(f"{part}: {reason}")


@app.command("leaks")
def leaks_command(
    folder: Folder,
    data: Data = None,
    output: Output = None,
    json: Json = False,
) -> None:
    """What profiles from all data, per-user and random cuts and later popularity buy, on the same held-out rows (about 30 minutes)."""
    from experiments.fidelity import leaks  # noqa: PLC0415

    _check_known(data, leaks.SETS, "leaks are not measured on '{name}'; they are on: {known}.")
    target = output or leaks.OUTPUT
    result = leaks.run(folder, tuple(name for name in leaks.SETS if not data or name in data), target, note)
    _tell(result, leaks.table(result), "What leaks buy: figures under each cut (and what they gain over one moment)", target, json)


@app.command("pages")
def pages_command(
    config: Config = Path("movielens"),
    set_: Set = None,
    recommender: Annotated[
        list[str] | None, typer.Option("--recommender", help="Whose pages; may be repeated [default: ease, random, popularity].")
    ] = None,
    population: Annotated[
        list[str] | None,
        typer.Option("--population", help="Which users; may be repeated [default: calibrated, traits, popularity, one-rating]."),
    ] = None,
    people: Annotated[int, typer.Option("--people", min=20, max=100_000, help="Held-out users judged at most.")] = 300,
    items: Annotated[int, typer.Option("--items", min=20, max=100_000, help="Items that each user is shown at most.")] = 400,
    output: Output = None,
    json: Json = False,
) -> None:
    """Whether the verdict on users, given what they were shown, depends on who fills the pages; wrong users beside the right ones."""
    from experiments import config as configuration  # noqa: PLC0415
    from experiments.benchmarks import page_policies  # noqa: PLC0415

    names, users = recommender or page_policies.RECOMMENDERS, population or tuple(page_policies.POPULATIONS)
    size = page_policies.Size(people, items)
    result = page_policies.run(configuration.read(config, set_ or []), names, users, size, note)
    target = output or page_policies.OUTPUT
    page_policies.write(result, target)
    title = f"{result['data']}: {result['users']} held-out users, worst distance in noise floors"
    _tell(result, page_policies.table(result), title, target, json)


@app.command("choose-rate")
def choose_rate_command(
    folder: Folder,
    data: Annotated[list[str] | None, typer.Option("--data", help="This data set only; may be repeated [default: ml-100k].")] = None,
    recommender: Annotated[list[str] | None, typer.Option("--recommender", help="Whose pages; may be repeated [default: all].")] = None,
    output: Output = None,
    json: Json = False,
) -> None:
    """The share chosen that was asked for and the one that came, on the pages of every recommender (about 10 minutes)."""
    from experiments.benchmarks import choose_rates  # noqa: PLC0415
    from experiments.component_names import shipped  # noqa: PLC0415
    from experiments.fidelity import shelf  # noqa: PLC0415

    _check_known(data, shelf.SETS, "there is no data set '{name}' here; allowed are: {known}.")
    target = output or choose_rates.OUTPUT
    result = choose_rates.run(folder, data or ["ml-100k"], recommender or list(shipped()), target, note)
    _tell(result, choose_rates.table(result), "Share of shown items that is chosen, asked and got", target, json)


@app.command("users")
def users_command(
    folder: Annotated[Path | None, typer.Argument(help="Folder with the data sets, each in a folder of its own.")] = None,
    data: Annotated[list[str] | None, typer.Option("--data", help="This data set only; may be repeated [default: ml-100k].")] = None,
    population: Annotated[list[str] | None, typer.Option("--population", help="These users only; may be repeated.")] = None,
    add: Annotated[list[str] | None, typer.Option("--add", metavar="NAME=FILE", help="Add the report of `usersim fidelity --log`.")] = None,
    page: Page = None,
    output: Output = None,
    json: Json = False,
) -> None:
    """The leaderboard of user simulators: populations on the same pages, judged by their logs."""
    from experiments.benchmarks import user_simulators as simulators  # noqa: PLC0415
    from experiments.fidelity import shelf  # noqa: PLC0415

    known = (*simulators.POPULATIONS, simulators.EVERYTHING)
    for given, allowed, what in ((data, shelf.SETS, "data set"), (population, known, "population")):
        _check_known(given, allowed, f"there is no {what} '{{name}}' here; there are: {{known}}.")
    target = output or simulators.OUTPUT
    if folder is None and not add and page is None:
        raise ConfigError("give the folder with the data sets, or --add with a report, or --page to write the table.")
    result = simulators.read(target)
    for entry in add or ():
        result = simulators.add(entry, target)
    if folder is not None:
        result = simulators.run(folder, data or ["ml-100k"], population or known, target, note)
    if page is not None:
        simulators.write_page(result, page)
    if json:
        emit(result, as_json=True)
        return
    emit_table(simulators.table(result), as_json=False, title="User simulators, by their logs")
    note(f"figures: {target}")


@app.command("cold-items")
def cold_items_command(
    folder: Folder,
    data: Data = None,
    output: Output = None,
    json: Json = False,
) -> None:
    """Which new items users would choose, by what is written about them: a fifth of the items is held out entirely (about 6 minutes)."""
    from experiments.fidelity import cold_items  # noqa: PLC0415

    _check_known(data, cold_items.SETS, "there is no data set '{name}' here; allowed are: {known}.")
    target = output or cold_items.OUTPUT
    result = cold_items.run(folder, tuple(name for name in cold_items.SETS if not data or name in data), target, note)
    _tell(result, cold_items.table(result), "New items: matched AUC of held-out users, lift over genres and years", target, json)


@app.command("table")
def table_command(
    document: Annotated[Path, typer.Argument(help="Markdown file with the marks of the table.")] = Path("README.md"),
    result: Annotated[Path, typer.Option("--result", help="What `usersim benchmark inference` wrote.")] = Path(
        "results/benchmarks/inference.json"
    ),
    json: Json = False,
) -> None:
    """Write the measured figures into the README's table."""
    from experiments.benchmarks import speed_table  # noqa: PLC0415

    changed = speed_table.write(document, speed_table.read(result))
    emit({"document": str(document), "result": str(result), "changed": changed}, as_json=json)
