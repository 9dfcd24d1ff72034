"""Stage 7: fine-tune a pretrained model to reply.

model + examples -> model.  The loss is on the assistant's tokens alone, each of a batch's counting the same.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from model.config import Sampling
from pipeline.artifacts.artifact import Artifact
from pipeline.stage.definition import Job
from pipeline.stage.program import main_of
from train.config import TrainingExecution
from train.finetune import FinetuneConfig, finetuning_stage, open_base
from train.training import start, train_and_publish

if TYPE_CHECKING:
    from model.heads import CausalLM


def run(job: Job[FinetuneConfig, TrainingExecution]) -> Artifact | None:
    """Go on from the base model with conversations, and run the loop."""
    from model.decoding import generate
    from train.data import ExampleData, count_targets
    from train.objectives import Objective, next_token_loss
    from train.scoring import TokenBytes, prompt_of, score_conversations

    config, execution, examples = job.config, job.execution, job.inputs["examples"]
    module, encoder = open_base(job.inputs, config, "conversation")
    data, held_out = (ExampleData(examples, split, module.config.context_length) for split in ("train", "validation"))
    token_bytes = TokenBytes.of(encoder.token_bytes)
    started = start(job)
    prompt, _ = prompt_of(held_out, 0)

    def sample(module: "CausalLM") -> str:
        sampling = Sampling(temperature=0.0, max_new_tokens=60)
        reply = generate(module, prompt, sampling, stop_ids=encoder.stop_ids, banned_ids=encoder.role_ids)
        return f"{encoder.decode(prompt)} -> {encoder.decode(list(reply))}"

    objective = Objective(
        samples=len(data),
        batch=data.conversations,
        targets=count_targets,
        loss=lambda module, batch: next_token_loss(module(batch["input_ids"]), batch["labels"]),
        evaluate=lambda module: score_conversations(module, held_out, token_bytes, started, execution.micro_batch_size),
        sample=sample,
    )
    return train_and_publish(job, started, module, objective, purpose="assistant")


STAGE = finetuning_stage("train.instruct", run)


def main(argv: Sequence[str] | None = None) -> int:
    return main_of(STAGE, argv)


if __name__ == "__main__":
    raise SystemExit(main())
