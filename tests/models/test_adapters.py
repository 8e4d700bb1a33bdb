"""A folder of peft's adapters as a model: its base is loaded, the adapters put on it, and the plan runs both."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.models import padded_batch
from support.outcome import Outcome
from support.reference import assert_same, logits
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from painters import Plan, evaluate, export, results, surgery
from painters.export import ExportError
from painters.models import ModelError, bundled, load_model, num_layers

peft = pytest.importorskip("peft", reason="needs pip install -e '.[dev]'")
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's
LLAMA = bundled.models()["nano-llama"]
RUN = ("--tasks", "nano_arc", "--limit", "4", "--batch-size", "4", "--quiet")


def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(LLAMA)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny model, and an adapter that does something."""
    base, adapter = (tmp_path_factory.mktemp("adapters") / name for name in ("base", "lora"))
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=1664, num_hidden_layers=4, pad_token_id=0, initializer_range=0.2, **sizes)
    LlamaForCausalLM(config).save_pretrained(base)
    tokenizer().save_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    lora = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(model, lora).save_pretrained(adapter)
    return base, adapter


def wrapped(folders: tuple[Path, Path]) -> Any:
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folders[0]), str(folders[1])).eval()


def test_the_model_is_what_peft_makes_of_it(folders: tuple[Path, Path]) -> None:
    model, words = load_model(str(folders[1]), device="cpu")
    assert num_layers(str(folders[1])) == 4
    assert len(words) == 1664
    ids, mask = padded_batch()
    with torch.no_grad():
        found = model(input_ids=ids, attention_mask=mask).logits
        assert torch.equal(found, wrapped(folders)(input_ids=ids, attention_mask=mask).logits)
        assert not torch.equal(
            found, AutoModelForCausalLM.from_pretrained(folders[0])(input_ids=ids, attention_mask=mask).logits
        )
        with surgery(model, "0 {1 2} 3"):
            planned = model(input_ids=ids, attention_mask=mask).logits
    assert_same(planned, logits("llama", model, Plan.parse("0 {1 2} 3"), ids, mask))


def test_commands_take_it(painters: Callable[..., Outcome], folders: tuple[Path, Path], tmp_path: Path) -> None:
    from lm_eval.models.huggingface import HFLM

    from painters.experiment import ScoringProtocol
    from painters.harness import Scorer, prepare
    from painters.harness.tasks import quiet

    name = str(folders[1])
    ran = painters("run", "--model", name, "--plan", "0 2-3", *RUN, "--exact-batching", "--out", "r.jsonl", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["model"] == name
    records = results.read(tmp_path / "r.jsonl")
    assert {record.model for record in records} == {name}
    (task,) = prepare("nano_arc", limit=4)
    with quiet():
        lm = HFLM(str(folders[0]), peft=name, batch_size=4, device="cpu")
        answers = lm.loglikelihood(task.requests, disable_tqdm=True)
    scorer = Scorer(*load_model(name, device="cpu"))
    list(scorer.score_alone(Plan.parse("0-3"), task, ScoringProtocol(batch_size=4)))
    assert [request.resps[0] for request in task.requests] == answers
    table = evaluate(name, "0 2-3", "nano_arc", limit=4, batch_size=4, exact_batching=True)
    assert table["value"][0] == next(r.value for r in records if r.metric == "acc" and not r.is_intact)
    assert painters("similarity", "--model", name, "--limit", "2").code == 0
    (tmp_path / "e.yaml").write_text(
        f"title: t\nmodels: [{name}]\ntasks: [nano_winogrande]\nvariants: [{{name: skip-layer, layer: 1}}]\n"
        "protocol: {limit: 2}\n"
    )
    for done in (2, 0):
        assert json.loads(painters("sweep", "e.yaml", "--out", "sw", "--json").out)["done"] == done
    shown = painters("show", "--variant", "skip-layer", "--layer", "1", "--model", name)
    assert (shown.code, "0 2-3" in shown.out) == (0, True)


def test_an_export_merges_it(painters: Callable[..., Outcome], folders: tuple[Path, Path], tmp_path: Path) -> None:
    name = str(folders[1])
    assert painters("export", "--model", name, "--plan", "0 2-3", "--to", "out").code == 0
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert f"{name} (an adapter merged into {folders[0]})" in card
    merged = wrapped(folders).merge_and_unload()
    ids, mask = padded_batch()
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        actual = found(input_ids=ids, attention_mask=mask).logits
    assert_same(actual, logits("llama", merged, Plan.parse("0 2-3"), ids, mask))
    assert export(name, "0 2-3", tmp_path / "python").num_layers == 3
    with pytest.raises(ExportError, match="has adapters on it: merge them"):
        export(load_model(name, device="cpu")[0], "0 2-3", tmp_path / "unmerged")


def changed(adapter: Path, to: Path, **fields: Any) -> str:
    shutil.copytree(adapter, to)
    path = to / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return str(to)


def test_what_is_refused(folders: tuple[Path, Path], tmp_path: Path, painters: Callable[..., Outcome]) -> None:
    base, adapter = folders
    nameless = changed(adapter, tmp_path / "nameless", base_model_name_or_path=None)
    elsewhere = changed(adapter, tmp_path / "elsewhere", base_model_name_or_path="/nope")
    circular = changed(adapter, tmp_path / "circular", base_model_name_or_path=str(tmp_path / "circular"))
    other = changed(adapter, tmp_path / "other", base_model_name_or_path="nano-llama")
    pickled = changed(adapter, tmp_path / "pickled")
    (tmp_path / "pickled" / "adapter_model.safetensors").unlink()
    broken = changed(adapter, tmp_path / "broken")
    (tmp_path / "broken" / "adapter_config.json").write_text("{")
    cases = {
        nameless: "names the model None that it belongs on",
        elsewhere: "model '/nope': there is no such file or folder",
        circular: "that it belongs on: write the name",
        other: "the adapter cannot be put on nano-llama",
        pickled: "reads no pickled weights",
        broken: "its adapter_config.json cannot be read",
    }
    for name, words in cases.items():
        with pytest.raises(ModelError, match=words):
            load_model(name, device="cpu")
    prompts = PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), prompts).save_pretrained(tmp_path / "prompts")
    with pytest.raises(ModelError, match="is an adapter of learned prompts"):
        load_model(str(tmp_path / "prompts"), device="cpu")
    assert "one of the two" not in (refused := painters("run", "--model", nameless, "--plan", "0", *RUN)).err
    assert refused.code == 1
    with pytest.raises(ModelError, match="only the hub has revisions"):
        load_model(str(adapter), revision="v2")
