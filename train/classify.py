"""Stage 6: fine-tune a pretrained model to give a text its label.

model + examples -> model.  A linear head reads the hidden state of the last token; all weights are trained.
"""

from collections.abc import Sequence

from pipeline.artifacts.artifact import Artifact
from pipeline.stage import Job, Stage, main_of
from train.execution import TrainingExecution
from train.finetune import ROLES, FinetuneConfig, imply_tokenizer, open_base


def run(job: Job[FinetuneConfig, TrainingExecution]) -> Artifact | None:
    """Put a head on the base model's backbone, and run the loop."""
    from model.gpt import init_weights
    from model.heads import SequenceClassifier
    from train.data import ExampleData
    from train.launch import launch
    from train.loop import Schedule, Task
    from train.objectives import classification_loss
    from train.scoring import score_labels
    from train.training import Trained, steps_of, train_and_publish

    config, execution, examples = job.config, job.execution, job.inputs["examples"]
    base, _ = open_base(job.inputs, config, "classification")
    labels = examples.facts["labels"]
    data, held_out = (ExampleData(examples, split, base.config.context_length) for split in ("train", "validation"))
    module = SequenceClassifier(base.config, labels)
    init_weights(module, config.seed)
    module.backbone.load_state_dict(base.backbone.state_dict())
    started = launch(
        precision=config.precision,
        threads=execution.threads,
        micro_batch_size=execution.micro_batch_size,
        program=STAGE.module,
        run_folder=job.run_folder,
    )
    task = Task(
        samples=len(data),
        batch=data.labelled,
        targets=lambda batch: len(batch["labels"]),
        unit="rows",
        loss=lambda module, batch: classification_loss(module(batch["input_ids"], batch["lengths"]), batch["labels"]),
        evaluate=lambda module: score_labels(module, held_out, len(labels), started, execution.micro_batch_size),
    )
    schedule = Schedule(
        max_steps=steps_of(config.max_steps, config.epochs, len(data), config.global_batch_size),
        global_batch_size=config.global_batch_size,
        eval_steps=config.eval_steps,
        seed=config.seed,
    )
    trained = Trained(task="classifier", tokenizer=job.inputs["tokenizer"])
    return train_and_publish(job, started, module, task, schedule, config.optimizer, trained)


STAGE = Stage(
    module="train.classify",
    version=1,
    kind="model",
    config=FinetuneConfig,
    execution=TrainingExecution,
    roles=ROLES,
    determinism="domain",
    toolchain=(),
    run=run,
    imply=imply_tokenizer,
    launchable=True,
)


def main(argv: Sequence[str] | None = None) -> int:
    return main_of(STAGE, argv)


if __name__ == "__main__":
    raise SystemExit(main())
