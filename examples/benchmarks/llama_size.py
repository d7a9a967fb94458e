"""The paper's model in its real size: memory and time of training and serving beside LoRA's.

Run it with: OMP_NUM_THREADS=1 python examples/benchmarks/llama_size.py --work DIR

Needs peft. The backbone has the configuration of LLaMA-3.2-1B and random weights in bfloat16, which
are written to --work (2.5 GB) and loaded as any backbone is: what is measured does not depend on
what the weights say. Rows are random tokens. All ways run in turn, round after round; a time is
the median of its rounds, a ratio the median of the rounds' ratios.

Training: one optimiser step on the same padded batch, by the product's own student and by PEFT with
LoRA r = 16 on query and value of all layers, the same head and the same optimiser. `trunk kept` is
every epoch but the first: the states below the route layer were computed then. What a step takes of
memory is the peak of the process during it, less what it held before; on a GPU what torch has
allocated there takes the place of the process, and seconds end when the GPU has finished.

Serving: experts of the default shape in the product's pool, a ridge gate over as many experts that
is fitted on random features, and batches whose rows it sends to several of them. `bare` is the
backbone alone, `two passes` the paper's way with the same adapters: a bare pass for the feature,
then the adapted one. Decoding is the product's writer, token by token from one prompt pass; bare is
the same writer without adapters, and after its two passes over the prompts the paper's way decodes
as one pass does.

``--backbone`` takes another decoder in the place of that one, with its own weights.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from machine import describe, finish
from mixed_batches import random_expert
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from expertbank import AdapterConfig, TrainConfig
from expertbank.adapters.pool import ExpertPool
from expertbank.adapters.stack import CollapsedExpert
from expertbank.adapters.targets import find_targets
from expertbank.backbones.backbone import Backbone, load_backbone
from expertbank.backbones.batches import collate
from expertbank.backbones.language import language_head
from expertbank.backbones.running import call_backbone, run_backbone
from expertbank.config import FeatureSpec
from expertbank.models.heads import head_input
from expertbank.models.routed import RoutedModel
from expertbank.models.writing import Prompted, WriteOptions
from expertbank.records import EncodedRow
from expertbank.routing.config import RouterConfig
from expertbank.testing.routers import TaskFeatures, fit_router
from expertbank.training.job import ExpertJob
from expertbank.training.student import Student
from expertbank.training.trunk import TrunkCache, use_fast_attention
from expertbank.writing import Writing

ROLES = ("query", "value")
LABELS = ("no", "yes")
PARTS = ("memory", "training", "serving")
MIB = 2**20
Way = Callable[[], object]


def built(options: argparse.Namespace) -> Path:
    """A folder with the model and a tokenizer that names few of its tokens."""
    folder: Path = options.work / f"llama-{options.layers}-{options.width}-{options.vocabulary}"
    if (folder / "model.safetensors").is_file():
        return folder
    heads = options.width // 64
    config = AutoConfig.for_model(
        "llama",
        vocab_size=options.vocabulary,
        hidden_size=options.width,
        num_hidden_layers=options.layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 4),
        head_dim=64,
        intermediate_size=4 * options.width,
        max_position_embeddings=131_072,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        model = AutoModel.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="20GB")
    words = {name: place for place, name in enumerate(("<s>", "</s>", "<pad>", "<unk>", "word"))}
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<unk>")),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
    ).save_pretrained(folder)
    # By the name that every release of transformers knows, and none takes for LLaMA's own.
    path = folder / "tokenizer_config.json"
    named = {**json.loads(path.read_text()), "tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(named))
    return folder


def random_rows(options: argparse.Namespace) -> tuple[EncodedRow, ...]:
    """Rows of equal length, with a class each."""
    drawn = torch.Generator().manual_seed(options.seed)
    size = (options.rows, options.tokens)
    ids = torch.randint(4, options.vocabulary, size, generator=drawn).tolist()
    types = ((0,) * options.tokens,)
    return tuple(EncodedRow((tuple(own),), types, float(n % 2)) for n, own in enumerate(ids))


def held(device: torch.device, *, peak: bool = False) -> float:
    """MiB that are held now, or were at most since ``peak_of`` began.

    Of this process, as the kernel has it; on a GPU what torch has allocated there.
    """
    if device.type == "cuda":
        read = torch.cuda.max_memory_allocated if peak else torch.cuda.memory_allocated
        return read(device) / MIB
    name = "VmHWM" if peak else "VmRSS"
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


def peak_of(way: Way, device: torch.device) -> float:
    """MiB that are held at the peak of ``way`` beyond what was held before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed is no longer held
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before = held(device)
    way()
    return held(device, peak=True) - before


def in_turn(ways: Mapping[str, Way], rounds: int) -> dict[str, list[float]]:
    """Seconds of every round of every way; a round before them warms up."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            finish()
            started = time.perf_counter()
            way()
            finish()
            if turn:
                taken[name].append(time.perf_counter() - started)
    return taken


def ratio(taken: Mapping[str, Sequence[float]], name: str, beside: str) -> float:
    """Median of a way's seconds over another's, round by round."""
    pairs = zip(taken[name], taken[beside], strict=True)
    return statistics.median(one / other for one, other in pairs)


def step_of(compute: Way, parameters: Sequence[nn.Parameter]) -> Way:
    """One optimiser step as ``training.loop`` takes it."""
    fused = all(parameter.device.type == "cpu" for parameter in parameters)
    optimiser = torch.optim.AdamW(parameters, lr=1e-4, fused=fused or None)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        compute()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()

    return step


def ours(
    backbone: Backbone, rows: tuple[EncodedRow, ...], spec: FeatureSpec, *, kept: bool
) -> tuple[Way, int]:
    """A step of the product, with trunk states kept or not, and the adapter's parameters."""
    config = TrainConfig(epochs=1, batch_size=len(rows))
    job = ExpertJob(
        "size", "classification", LABELS, rows, rows, AdapterConfig(tt_rank=5), config, spec
    )
    student = Student(job, backbone, torch.Generator().manual_seed(0))
    places = list(range(len(rows)))
    cache = TrunkCache(student.view, rows, places if kept else (), lambda rows, tokens: None)
    step = step_of(
        lambda: student.gradients(rows, places, 1, cache),
        [*student.adapter.parameters(), *student.head],
    )
    return step, student.adapter.parameter_count


def lora(backbone: Backbone, rows: tuple[EncodedRow, ...]) -> tuple[Way, int]:
    """A step of PEFT's LoRA r = 16 on the same batch, and its parameters."""
    own = backbone.view()
    use_fast_attention(own)
    paths = [target.path for target in find_targets(own.model, own.family, 0, ROLES)]
    get_peft_model(own.model, LoraConfig(r=16, lora_alpha=32, target_modules=paths))
    factors = [one for one in own.model.parameters() if one.requires_grad]
    weight = nn.Parameter(torch.zeros(len(LABELS), own.output_size, device=own.device))
    bias = nn.Parameter(torch.zeros(len(LABELS), device=own.device))

    def compute() -> None:
        pad = own.tokenizer.pad_token_id
        batch = collate(rows, range(len(rows)), pad, own.device)
        pooled = head_input(call_backbone(own, batch), batch, own.family.pooling)
        loss = nn.functional.cross_entropy(pooled @ weight.T + bias, batch.targets.long())
        loss.backward()  # type: ignore[no-untyped-call]
        float(loss.detach())  # every step looks at its loss, as the product's do

    return step_of(compute, [*factors, weight, bias]), sum(one.numel() for one in factors)


def training(options: argparse.Namespace, backbone: Backbone, spec: FeatureSpec) -> None:
    """Parameters, time and memory of a step: one table."""
    rows, reference = random_rows(options), "LoRA r = 16, all layers, PEFT"
    whole = FeatureSpec(
        backbone.digest, 0, (options.layers,), ("last",), spec.max_length, spec.dtype
    )
    layers = f"TT-LoRA, layers {spec.route_layer} and up"
    sides = {
        f"{layers}, trunk kept": ours(backbone, rows, spec, kept=True),
        f"{layers}, first epoch": ours(backbone, rows, spec, kept=False),
        "TT-LoRA, all layers": ours(backbone, rows, whole, kept=False),
        reference: lora(backbone, rows),
    }
    ways = {name: step for name, (step, _) in sides.items()}
    taken = in_turn(ways, options.rounds)
    peaks = {name: peak_of(way, backbone.device) for name, way in ways.items()}
    print(f"\nTraining, {options.rows} rows of {options.tokens} tokens a step\n")
    print("| side | adapter parameters | seconds a step | time, PEFT = 1 | peak memory, MiB |")
    print("|---|---|---|---|---|")
    for name, (_, parameters) in sides.items():
        seconds, times = statistics.median(taken[name]), ratio(taken, name, reference)
        print(f"| {name} | {parameters:,} | {seconds:.4g} | {times:.2f} | {peaks[name]:,.0f} |")


def gate(spec: FeatureSpec, names: Sequence[str], width: int) -> Callable[..., list[str]]:
    """What names an expert for each row.

    A ridge gate over all experts is asked, and the rows then go to them in turn, so that a batch
    mixes as many as it can.
    """
    drawn = torch.Generator().manual_seed(0)
    tasks = []
    for name in names:
        features = torch.randn(20, width, generator=drawn).half()
        shapes = ("single",) * len(features)
        tasks.append(
            TaskFeatures(
                name, "0" * 64, name.split("@")[0], "classification", None, features, shapes
            )
        )
    router = fit_router(tasks, RouterConfig(kind="ridge"), spec.digest)

    def decide(features: Tensor, places: Sequence[int]) -> list[str]:
        router.route(features, ["single"] * len(places)).index.tolist()
        return [names[place % len(names)] for place in places]

    return decide


def memory(options: argparse.Namespace, backbone: Backbone, spec: FeatureSpec) -> None:
    """What experts take once they are loaded: one table."""
    device = backbone.device
    print(f"\nMemory of serving; the backbone alone {held(device):,.0f} MiB of what is held\n")
    print("| experts | kept, MiB | held grew by, MiB | one expert, MiB |")
    print("|---|---|---|---|")
    for count in options.kept:
        before = held(device)
        pool = ExpertPool(lambda name: random_expert(backbone, name, spec.route_layer), None)
        for number in range(count):
            pool.expert(f"task{number:03d}@1")
        kept, grown = pool.nbytes / MIB, held(device) - before
        print(f"| {count} | {kept:,.1f} | {grown:,.1f} | {kept / count:.2f} |", flush=True)


def writers(
    backbone: Backbone, experts: Mapping[str, CollapsedExpert], most: int
) -> dict[str, CollapsedExpert]:
    """The same adapters for experts that write."""
    writing = Writing("", (), most, language_head(backbone).digest)
    nothing = torch.empty(0, 0, device=backbone.device)
    return {
        name: replace(one, head_weight=nothing, head_bias=nothing.flatten(), writing=writing)
        for name, one in experts.items()
    }


def serving(options: argparse.Namespace, backbone: Backbone, spec: FeatureSpec) -> None:
    """Prompt passes and decoding with some numbers of experts: one table."""
    rows, pad = random_rows(options), backbone.tokenizer.pad_token_id
    batch = collate(rows, range(len(rows)), pad, backbone.device, left=True)
    print(
        f"\nServing, {options.rows} prompts of {options.tokens} tokens, {options.new} new tokens\n"
    )
    print("| experts | in the batch | way | prompts, s | bare = 1 | a token, s | bare = 1 |")
    print("|---|---|---|---|---|---|---|")
    for count in options.experts:
        names = [f"task{number:03d}@1" for number in range(count)]
        experts = {name: random_expert(backbone, name, spec.route_layer) for name in names}
        model = RoutedModel(backbone, spec, ExpertPool.holding(experts))
        decide = gate(spec, names, model.trunk_features(batch).shape[1])
        chosen = decide(model.trunk_features(batch), batch.rows)

        def two_passes(
            model: RoutedModel = model, decide: Callable[..., list[str]] = decide
        ) -> None:
            call_backbone(backbone, batch)
            model(batch, decide)

        ways: dict[str, Way] = {
            "bare": lambda: call_backbone(backbone, batch),
            "one pass": lambda model=model, decide=decide: model(batch, decide),
            "two passes": two_passes,
        }
        read = in_turn(ways, options.rounds)
        written = in_turn(decoding(model, options, batch, writers(backbone, experts, options.new),
                                   chosen), options.rounds)  # fmt: skip
        for name in ways:
            line = f"| {count} | {len(set(chosen))} | {name} | {statistics.median(read[name]):.3g}"
            line += f" | {ratio(read, name, 'bare'):.3f} |"
            if name in written:
                token = statistics.median(written[name]) / options.new
                line += f" {token:.3g} | {ratio(written, name, 'bare'):.3f} |"
            else:
                line += " as one pass | |"
            print(line, flush=True)


def decoding(
    model: RoutedModel,
    options: argparse.Namespace,
    batch: object,
    experts: Mapping[str, CollapsedExpert],
    chosen: Sequence[str],
) -> dict[str, Way]:
    """Writing from one prompt pass, bare and with every row's own expert."""
    output = run_backbone(model.backbone, batch, keep=True)
    stack = ExpertPool.holding(experts).stack(sorted(set(chosen)))
    index = [stack.ids.index(name) for name in chosen]
    writings = [experts[name].writing for name in chosen]

    def written(adapted: Callable[[Sequence[int]], Mapping]) -> Way:
        def way() -> None:
            cache = copy.deepcopy(output.past_key_values)
            prompted = Prompted(
                batch.rows,
                output.last_hidden_state[torch.arange(len(chosen)), -1],
                batch.attention_mask,
                cache,
            )
            found = model.writer.write(prompted, writings, adapted, WriteOptions())
            assert {one.tokens for one in found} == {options.new}, "an answer ended early"

        return way

    return {
        "bare": written(lambda rows: {}),
        "one pass": written(lambda rows: model.updates(stack, [index[row] for row in rows])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder for the model's files")
    parser.add_argument("--backbone", help="another decoder: a GGUF file, a folder or a Hub name")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--width", type=int, default=2048, help="a multiple of 64")
    parser.add_argument("--vocabulary", type=int, default=128_256)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=16, help="of a row or prompt")
    parser.add_argument("--new", type=int, default=8, help="tokens to write")
    parser.add_argument("--kept", type=int, nargs="+", default=(1, 16, 256))
    parser.add_argument("--experts", type=int, nargs="+", default=(1, 16))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if (options.work is None) == (options.backbone is None):
        parser.error("either --work or --backbone")
    torch.set_num_threads(options.threads)
    describe(options.seed)
    place = options.backbone or str(built(options))
    backbone = load_backbone(place, dtype="bfloat16", device=options.device)
    config = backbone.model.config
    options.vocabulary, options.layers = config.vocab_size, config.num_hidden_layers
    size = sum(one.numel() for one in backbone.model.parameters())
    spec = backbone.default_feature_spec(max_length=512, dtype="bfloat16")
    print(f"{size:,} parameters, {options.layers} layers of {config.hidden_size}, bfloat16")
    for part in options.parts:
        with torch.inference_mode(part == "serving"):
            {"memory": memory, "training": training, "serving": serving}[part](
                options, backbone, spec
            )


if __name__ == "__main__":
    main()
