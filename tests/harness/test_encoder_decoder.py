"""Encoder-decoders under plans, scored as lm-eval's `hf` scores them: the context in the encoder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from support.outcome import Outcome
from torch import nn
from transformers import (
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

import painters
from painters import SurgeryError, results, similarity
from painters.experiment import ScoringProtocol, cell_key
from painters.harness import PaintersLM, Scorer, prepare
from painters.harness.tasks import quiet
from painters.models import bundled

ENCODER, DECODER = 4, 3
"""Layers of each stack."""
IDS = {"pad_token_id": 0, "eos_token_id": 2}


def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(bundled.models()["nano-llama"])


def t5() -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_heads": 4, "vocab_size": 1664, "initializer_factor": 2.0}
    config = T5Config(num_layers=ENCODER, num_decoder_layers=DECODER, decoder_start_token_id=0, **IDS, **sizes)
    return T5ForConditionalGeneration(config).eval()


def bart() -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
    more = {"d_model": 32, "vocab_size": 1664, "max_position_embeddings": 256, "init_std": 0.3}
    config = BartConfig(
        **{"encoder_layers": ENCODER, "decoder_layers": DECODER, "decoder_start_token_id": 2, "bos_token_id": 1},
        **{**IDS, **sizes, **more, "forced_eos_token_id": None},
    )
    return BartForConditionalGeneration(config).eval()


@pytest.fixture(scope="module")
def tasks() -> Any:
    return prepare(["nano_arc", "nano_gsm8k"], limit=3)


def by_lm_eval(model: PreTrainedModel, task: Any) -> list[Any]:
    """The answers of lm-eval's own model."""
    with quiet():
        lm = HFLM(model, tokenizer=tokenizer(), batch_size=4)
        assert lm.backend == "seq2seq"
        answers: list[Any] = getattr(lm, task.requests[0].request_type)(task.requests, disable_tqdm=True)
        return answers


def answers(scorer: Scorer, plan: str, task: Any) -> list[Any]:
    records = list(scorer.score(scorer.check([plan]), task, ScoringProtocol(batch_size=4)))
    assert {(record.stack, record.batching) for record in records} == {(scorer.stack, "lm-eval")}
    return [request.resps[0] for request in task.requests]


@pytest.mark.parametrize("make", [t5, bart])
@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_the_identity_gives_the_numbers_of_lm_evals_hf(
    make: Callable[[], PreTrainedModel], stack: str, tasks: Any
) -> None:
    scorer = Scorer(make(), tokenizer(), stack)
    for task in tasks:
        assert answers(scorer, f"0-{scorer.num_layers - 1}", task) == by_lm_eval(make(), task)


@pytest.mark.parametrize("make", [t5, bart])
@pytest.mark.parametrize(("stack", "plan", "kept"), [("encoder", "0 1 3", [0, 1, 3]), ("decoder", "0 2", [0, 2])])
def test_skipping_gives_the_numbers_of_a_model_without_the_layer(
    make: Callable[[], PreTrainedModel], stack: str, plan: str, kept: list[int], tasks: Any
) -> None:
    shorter = make()
    half = shorter.get_encoder() if stack == "encoder" else shorter.get_decoder()
    name = "block" if make is t5 else "layers"
    setattr(half, name, nn.ModuleList(getattr(half, name)[layer] for layer in kept))
    scorer = Scorer(make(), tokenizer(), stack)
    for task in tasks[:1]:
        found = answers(scorer, plan, task)
        assert found == by_lm_eval(shorter, task)
        assert found != by_lm_eval(make(), task)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bart") / "model"
    bart().save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


def test_run_and_evaluate_take_a_stack(painters: Callable[..., Outcome], folder: Path, tmp_path: Path) -> None:
    options = ("--model", str(folder), "--tasks", "nano_arc", "--limit", "3", "--json", "--out", "records.jsonl")
    for stack, plan, count in (("encoder", "0 2-3", ENCODER), ("decoder", "0 2", DECODER)):
        ran = painters("run", *options, "--stack", stack, "--plan", plan)
        assert ran.code == 0, ran.err
        told = json.loads(ran.out)
        assert (told["stack"], told["num_layers"]) == (stack, count)
    records = results.read(tmp_path / "records.jsonl")
    assert [record.stack for record in records if record.metric == "acc"] == ["encoder"] * 2 + ["decoder"] * 2
    found = evaluate(str(folder), "0 2", "nano_arc", limit=3, stack="decoder", batch_size=32)
    (record,) = (r for r in records if r.metric == "acc" and r.plan == "0 2")
    assert found["value"][0] == record.value


evaluate = painters.evaluate


def test_the_stack_is_part_of_the_key_where_it_is_given(folder: Path) -> None:
    scorer = Scorer(bart(), tokenizer(), "decoder")
    (task,) = prepare("nano_winogrande", limit=1)
    (record,) = scorer.score(scorer.check(["0"]), task)
    other = record.model_copy(update={"stack": "encoder"})
    assert results.key(record) != results.key(other)
    assert '"stack": "decoder"' in results.key(record)
    assert "stack" not in results.key(record.model_copy(update={"stack": None}))
    fields: dict[str, Any] = {"model": "m", "revision": None, "dtype": "auto", "plan": "0", "kv": "exact", "task": "t"}
    fields |= {"shots": None, "limit": 1, "seed": 1, "batch_size": 1, "tuning": None}
    assert len({cell_key(**fields, stack=stack) for stack in (None, "encoder", "decoder")}) == 3
    assert "stack" not in cell_key(**fields)


def test_an_experiment_names_stacks(painters: Callable[..., Outcome], folder: Path, tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text(
        f"title: stacks\nmodels: [{{name: {folder}, stack: decoder}}, {{name: {folder}, stack: encoder}}]\n"
        "tasks: [nano_winogrande]\nvariants: [{name: skip-layer, layer: 1}]\nprotocol: {limit: 2}\n"
    )
    assert painters("sweep", "e.yaml", "--out", "out").code == 0
    again = json.loads(painters("sweep", "e.yaml", "--out", "out", "--json").out)
    assert (again["cells"], again["found"], again["done"]) == (4, 4, 0)
    records = [record for path in (tmp_path / "out").glob("*.jsonl") for record in results.read(path)]
    assert {(r.stack, r.plan) for r in records} == {
        *(("decoder", "0-2"), ("decoder", "0 2")),
        *(("encoder", "0-3"), ("encoder", "0 2-3")),
    }
    other = painters("sweep", "e.yaml", "--out", "b", "--model", str(folder), "--stack", "encoder", "--json")
    assert json.loads(other.out)["done"] == 2
    assert painters("sweep", "e.yaml", "--stack", "encoder").code == 2


def test_similarity_takes_a_stack(painters: Callable[..., Outcome], folder: Path) -> None:
    told = painters("similarity", "--model", str(folder), "--stack", "decoder", "--limit", "2", "--json")
    found = json.loads(told.out)
    assert (found["stack"], found["labels"]) == ("decoder", ["embeddings", "0", "1", "2"])
    # the decoder reads what it writes in training
    model, words = bart(), tokenizer()
    states: list[torch.Tensor] = []
    layers = model.get_decoder().layers
    handles = [layers[0].register_forward_pre_hook(lambda _, args: states.append(args[0]))]
    handles += [layer.register_forward_hook(lambda _, __, out: states.append(out)) for layer in layers]
    ids = torch.tensor([words.encode("Tom has two lamps and a kite.", add_special_tokens=False)])
    with torch.inference_mode():
        model(input_ids=ids, labels=ids)
    for handle in handles:
        handle.remove()
    table = similarity(model, ["Tom has two lamps and a kite."], tokenizer=words, path="decoder")
    expected = torch.nn.functional.cosine_similarity(states[1], states[3], dim=-1).mean().item()
    assert table.loc["0", "2"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "--plan", "0 2"), "is an encoder-decoder, and a plan runs one stack"),
        (("run", "--plan", "0 3", "--stack", "decoder"), "plan runs layer 3, but"),
        (("run", "--plan", "0 3", "--stack", "encode"), "has nothing at 'encode'"),
        (("similarity",), "is an encoder-decoder, and a plan runs one stack"),
        (("export", "--plan", "0 2", "--to", "out"), "is an encoder-decoder, and a plan runs one stack"),
    ],
)
def test_a_stack_must_be_chosen(
    arguments: tuple[str, ...], words: str, painters: Callable[..., Outcome], folder: Path, tmp_path: Path
) -> None:
    found = painters(*arguments, "--model", str(folder), "--quiet")
    assert found.code == 2
    assert words in found.err
    assert len(found.err.strip().splitlines()) == 1
    assert not list(tmp_path.glob("out*"))


def test_exports_refuse_two_stacks(painters: Callable[..., Outcome], folder: Path) -> None:
    found = painters("export", "--plan", "0 2", "--stack", "decoder", "--model", str(folder), "--to", "out", "--quiet")
    assert found.code == 1
    assert "only models with one stack of layers can be exported" in found.err


def test_lm_eval_takes_a_stack(folder: Path) -> None:
    lm = PaintersLM(str(folder), plan="0 2", stack="decoder", device="cpu")
    assert (str(lm.plan), lm.get_model_info()["stack"]) == ("0 2", "decoder")
    assert PaintersLM(str(folder), variant="skip-layer", layer=1, stack="encoder", device="cpu").plan is not None
    with pytest.raises(SurgeryError, match="encoder-decoder"):
        PaintersLM(str(folder), plan="0 2", device="cpu")


def test_a_process_of_its_own_knows_the_model_painters() -> None:
    """What `painters lm-eval` imports, and nothing else."""
    code = (
        "import painters.harness.lm_eval_cli\nfrom lm_eval.api.registry import get_model\nprint(get_model('painters'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "PaintersLM" in done.stdout, done.stderr
