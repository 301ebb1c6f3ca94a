"""Dataset names to the examples of a run: rows come encoded from the cache, and every one of them is accounted for."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from registry.datasets import DatasetEntry
from registry.encode import keeps_lead
from registry.encoded.build import encoded_rows
from registry.encoded.rows import EncodedRows
from registry.encoded.spec import EncodeSpec, cache_root
from registry.errors import RowFault
from registry.fast_tokenizers import AUTO
from registry.render import Renderer
from registry.sources import expand_sources
from registry.texts import TextRules, end_text_of
from registry.tokenizer import Tokenizer, open_tokenizer
from trainkit.config import RunConfig
from trainkit.data.account import Examples, Rejected, reason_of, report
from trainkit.data.makes import Feedback, Pairs, Prompts, Turns
from trainkit.data.mixing import dataset_order, mixed_order, split_order
from trainkit.data.text_view import TextView
from trainkit.data.tokenized import open_tokenized, save_tokenized, saved_files
from trainkit.data.views import Joined, Order, RowView, View
from trainkit.data.windows import map_windows
from trainkit.new_tokens import new_tokens
from trainkit.rules import PURPOSES, encode_rules, render_rules

log = logging.getLogger("tunekit")


def open_examples(
    config: RunConfig, entries: Mapping[str, DatasetEntry], folder: str | Path, *, for_prediction: bool = False
) -> tuple[Examples, Tokenizer]:
    """The examples of a run by the tokenizer in ``folder``, and that tokenizer fitted to the run's template.

    ``for_prediction`` makes prompts with the answers to hold against of the evaluation sets (or the training sets
    where there are none). Raises ``UsageError`` where not one example is left, with the reasons counted.
    """
    # pt spells no turns: a base model without a chat template is fine there
    template = config.data.template or ("empty" if config.stage == "pt" else None)
    tokenizer, renderer = open_tokenizer(
        folder, template, rules=render_rules(config), backend=AUTO, added=new_tokens(config.model)
    )
    if tokenizer.new_tokens and not config.strict:
        log.warning(
            "template %s stops at %s, which this tokenizer does not know as a token: the template is that of other models "
            "(trainkit templates --check %s finds the nearest)",
            template, ", ".join(tokenizer.new_tokens), folder,
        )  # fmt: skip
    purpose = "answer" if for_prediction else PURPOSES[config.stage]
    sets = load_sets(config, entries, folder, purpose, opened=(tokenizer, renderer))
    return view_examples(config, entries, sets, tokenizer, renderer, for_prediction=for_prediction), tokenizer


def load_sets(
    config: RunConfig,
    entries: Mapping[str, DatasetEntry],
    folder: str | Path,
    purpose: str,
    *,
    opened: tuple[Tokenizer, Renderer] | None = None,
) -> dict[str, EncodedRows]:
    """The encoded rows of each dataset by name, encoded now where the cache lacks them."""
    data = config.data
    names = list(dict.fromkeys((*(data.dataset or ()), *(data.eval_dataset or ()))))
    for name in names:
        for warning in entries[name].warnings:
            log.warning("dataset_info.json, %s: %s", name, warning)
        for note in entries[name].notes:
            log.info("%s", note)
    saved = saved_files(Path(data.tokenized_path)) if data.tokenized_path else {}
    specs = {}
    for name in names:
        entry = entries[name]
        is_there = entry.address is None and entry.path.exists()  # then the rows are held against those saved
        specs[name] = spec_of(config, entry, folder, purpose, files=None if is_there else saved.get(name))
    limits = {name: None if entries[name].slices or entries[name].num_samples else data.max_samples for name in names}
    if data.tokenized_path and (found := open_tokenized(Path(data.tokenized_path), specs, limits)) is not None:
        return found
    root = Path(data.cache_path) if data.cache_path else cache_root()
    sets: dict[str, EncodedRows] = {}
    for name, spec in specs.items():
        sets[name] = encoded_rows(
            spec,
            root,
            limit=limits[name],
            workers=data.preprocessing_num_workers,
            told=name,
            opened=None if sets else opened,  # a fast library that is found wrong must not have served two
        )
    if data.tokenized_path:
        save_tokenized(Path(data.tokenized_path), sets)
    return sets


def spec_of(
    config: RunConfig, entry: DatasetEntry, folder: str | Path, purpose: str, *, files: Sequence[str] | None = None
) -> EncodeSpec:
    """What decides the ids of one dataset's rows; ``files`` are its files where they need not be there any more."""
    layout = replace(entry.layout, weights=False) if config.strict else entry.layout
    template = config.data.template
    rules = render_rules(config)
    return EncodeSpec(
        kind=purpose, files=tuple(expand_sources(entry.sources) if files is None else files), layout=layout, tokenizer_folder=str(folder),
        template=template, rules=rules, end_text=end_text_of(template) if purpose == "text" else None,
        strict=config.strict, added=new_tokens(config.model),
    )  # fmt: skip


def view_examples(
    config: RunConfig,
    entries: Mapping[str, DatasetEntry],
    sets: Mapping[str, EncodedRows],
    tokenizer: Tokenizer,
    renderer: Renderer,
    *,
    for_prediction: bool = False,
) -> Examples:
    """The examples of a run over encoded rows: mixed, split, cut; nothing is copied."""
    import numpy as np

    data = config.data
    rng = np.random.RandomState(config.loop.seed % 2**32)
    views = _Views(config, tokenizer, renderer, sets, for_prediction=for_prediction)
    train_names, eval_names = list(data.dataset or ()), list(data.eval_dataset or ())
    drawn: list[tuple[str, Any]] = []  # a dataset that is named twice is drawn from twice
    for name in (*train_names, *eval_names):
        entry = entries[name]
        rows = dataset_order(
            len(sets[name]), rng, slices=entry.slices, num_samples=entry.num_samples, max_samples=data.max_samples
        )
        views.read(name, rows)
        views.found.chosen[name] = len(rows)
        drawn.append((name, rows))
    train = views.mixed(drawn[: len(train_names)])
    held_out: dict[str, Order] = {}
    if data.val_size and train_names:
        kept, out = split_order(len(train), data.val_size, config.loop.seed)
        held_out, train = {"": train.take(out)}, train.take(kept)
    elif eval_names and data.eval_on_each_dataset:
        held_out = {name: views.mixed([(name, rows)]) for name, rows in drawn[len(train_names) :]}
    elif eval_names:
        held_out = {"": views.mixed(drawn[len(train_names) :])}
    found = views.found
    found.train = views.view(train)
    found.evals = {name: views.view(order) for name, order in held_out.items()}
    found.sets = dict(sets)
    report(found, config)
    return found


class _Views:
    """Makes the views of a run, and keeps account of the rows that go into them."""

    def __init__(
        self,
        config: RunConfig,
        tokenizer: Tokenizer,
        renderer: Renderer,
        sets: Mapping[str, EncodedRows],
        *,
        for_prediction: bool,
    ) -> None:
        self.config, self.tokenizer, self.for_prediction = config, tokenizer, for_prediction
        self.sets = list(sets.values())
        self.names = list(sets)
        self.numbers = {name: number for number, name in enumerate(self.names)}
        self.keys = [rows.folder.name for rows in self.sets]
        self.eos = tokenizer.eos_id if renderer.efficient_eos else None
        self.leads = keeps_lead(renderer)
        self.found = Examples(Joined([]))

    def read(self, name: str, rows: Any) -> None:
        """Take note of the rows of a dataset that the run looks at."""
        for file, count in self.sets[self.numbers[name]].count_by_file(rows).items():
            self.found.ledger.read(file, count)
        self.found.special_texts += self.sets[self.numbers[name]].special_texts(rows)

    def mixed(self, drawn: Sequence[tuple[str, Any]]) -> Order:
        """The rows drawn from several datasets, in the order of the run's mix."""
        import numpy as np

        data, ledger = self.config.data, self.found.ledger
        if not drawn:
            return Order(np.zeros(0, np.int16), np.zeros(0, np.int64))
        sizes = [len(chosen) for _, chosen in drawn]
        of, places = mixed_order(sizes, data.mix_strategy, data.interleave_probs, self.config.loop.seed)
        rows = np.zeros(len(of), np.int64)
        datasets = np.zeros(len(of), np.int16)
        for number, (name, chosen) in enumerate(drawn):
            mine = of == number
            rows[mine] = np.asarray(chosen)[places[mine]]
            datasets[mine] = self.numbers[name]
        surplus = len(of) - sum(sizes)
        if surplus > 0:
            ledger.added += surplus
        elif surplus < 0:
            ledger.filtered[f"mix_strategy: {data.mix_strategy}"] += -surplus
        return Order(datasets, rows)

    def view(self, order: Order) -> View:
        """The examples of an order; rows that become none are rejected."""
        import numpy as np

        data = self.config.data
        if self.config.strict:
            windows = map_windows(len(order), data.preprocessing_batch_size, data.preprocessing_num_workers)
            order = Order(order.datasets, order.rows, windows)
        unsound = np.zeros(len(order), np.bool_)
        for number, rows in enumerate(self.sets):
            mine = order.datasets == number
            unsound[mine] = rows.unsound()[order.rows[mine]]
        for number in np.flatnonzero(unsound).tolist():
            fault = self.sets[int(order.datasets[number])].fault(int(order.rows[number]))
            self._reject(order, number, fault or RowFault("row", "it has no ids"))
        sound = order.take(~unsound)
        view = self._text(sound) if self.config.stage == "pt" else RowView(self.sets, sound, self._make(), self.keys)
        for lost in view.lost:
            self._reject(sound, lost.number, lost.fault)
        self.found.ledger.rows_out += len(sound) - len(view.lost)
        return view

    def _reject(self, order: Order, number: int, fault: RowFault) -> None:
        """Take note of the ``number``-th row of an order, which becomes no example."""
        dataset = int(order.datasets[number])
        self.found.ledger.rejected[reason_of(fault)] += 1
        place = self.sets[dataset].place(int(order.rows[number]))
        self.found.rejected.append(Rejected(*place, fault, dataset=self.names[dataset]))

    def _make(self) -> Any:
        rules = encode_rules(self.config)
        if self.for_prediction:
            return Prompts(rules, self.eos)
        if self.config.stage == "kto":
            return Feedback(rules, self.eos)
        if self.config.stage in ("rm", "dpo"):
            return Pairs(rules, self.eos)
        return Turns(rules, self.eos, self.leads)

    def _text(self, order: Order) -> TextView:
        data, strict, tokenizer = self.config.data, self.config.strict, self.tokenizer
        rules = TextRules(
            cutoff_len=encode_rules(self.config).cutoff_len,
            blocks=data.packing is not False,
            bos_id=tokenizer.bos_id if tokenizer.adds_bos else None,
            strict=strict,
        )
        # Their collator masks padding by its id, and with it every end of text that has the same id.
        masked = tokenizer.pad_id if strict and tokenizer.pad_id == tokenizer.eos_id else None
        view = TextView(self.sets, order, rules, self.keys, masked=masked)
        self.found.dropped_tokens += view.dropped
        return view
