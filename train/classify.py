"""Stage 6: fine-tune a pretrained model to give a text its label.

model + examples -> model.  A linear head reads the hidden state of the last token; all weights are trained.
"""

from collections.abc import Sequence

from pipeline.artifacts.artifact import Artifact
from pipeline.stage.definition import Job
from pipeline.stage.program import main_of
from train.config import TrainingExecution
from train.finetune import FinetuneConfig, finetuning_stage, open_base
from train.training import start, train_and_publish


def run(job: Job[FinetuneConfig, TrainingExecution]) -> Artifact | None:
    """Put a head on the base model's backbone, and run the loop."""
    from model.gpt import init_weights
    from model.heads import SequenceClassifier
    from train.data import ExampleData
    from train.objectives import Objective, classification_loss
    from train.scoring import score_labels

    config, execution, examples = job.config, job.execution, job.inputs["examples"]
    base, _ = open_base(job.inputs, config, "classification")
    labels = examples.facts["labels"]
    data, held_out = (ExampleData(examples, split, base.config.context_length) for split in ("train", "validation"))
    module = SequenceClassifier(base.config, labels)
    init_weights(module, config.seed)
    module.backbone.load_state_dict(base.backbone.state_dict())
    started = start(job)
    objective = Objective[SequenceClassifier](
        samples=len(data),
        batch=data.labelled,
        targets=lambda batch: len(batch["labels"]),
        unit="rows",
        loss=lambda module, batch: classification_loss(module(batch["input_ids"], batch["lengths"]), batch["labels"]),
        evaluate=lambda module: score_labels(module, held_out, len(labels), started, execution.micro_batch_size),
    )
    return train_and_publish(job, started, module, objective, purpose="classifier")


STAGE = finetuning_stage("train.classify", run)


def main(argv: Sequence[str] | None = None) -> int:
    return main_of(STAGE, argv)


if __name__ == "__main__":
    raise SystemExit(main())
