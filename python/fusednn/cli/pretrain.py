"""Train a classifier on few labels, after its hidden layers learned from samples without.

Each hidden layer first learns to give back what it sees, on the whole training set (stacked
autoencoders); then the network learns the labels of a few samples. The same network with the same
first weights learns these labels alone, and what the first part gained, or not, is printed.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any, cast

from fusednn.cli import model_file, train
from fusednn.cli.threads import training_threads
from fusednn.cli.values import integer, number_between

if TYPE_CHECKING:
    from fusednn.datasets import LabeledData
    from fusednn.models import Sequential

LABELS = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``fusednn pretrain``."""
    parser.set_defaults(run=run)
    train.add_data_options(parser)
    _add_pretraining_options(parser.add_argument_group("pretraining"))
    train.add_network_options(parser.add_argument_group("network"))
    train.add_training_options(parser.add_argument_group("training on labels"))
    output = parser.add_argument_group("output")
    model_file.add_option(output)
    verbosity = output.add_mutually_exclusive_group()
    verbosity.add_argument("--verbose", action="store_true", help="a line for each epoch, too")
    verbosity.add_argument("--quiet", action="store_true", help="print the result only")


def _add_pretraining_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--labels",
        type=integer(1),
        default=LABELS,
        metavar="N",
        help="training samples whose label is used, classes in proportion (default %(default)s)",
    )
    group.add_argument(
        "--pretrain-epochs",
        type=integer(1),
        default=20,
        metavar="N",
        help="passes over the training set for each hidden layer (default %(default)s)",
    )
    group.add_argument(
        "--noise",
        type=number_between(0, low_allowed=True),
        default=0.0,
        metavar="STD",
        help="standard deviation of noise that layers learn to remove (default %(default)s)",
    )
    group.add_argument(
        "--tied",
        action="store_true",
        help="decoders use their encoders' weights, transposed",
    )
    group.add_argument(
        "--fine-tune",
        choices=("all", "output"),
        default="all",
        help="the layers that learn the labels (default %(default)s)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Read, build, pretrain, train on the labels with and without; print each."""
    model_file.check(arguments.save)
    with train.chosen_device(arguments.device):
        _run(arguments)


def _run(arguments: argparse.Namespace) -> None:
    train.make_optimizer(arguments)  # what does not fit is refused before the work
    data, report = train.read_data(arguments)
    say = print if not arguments.quiet else lambda *_: None
    for line in report:
        say(line)
    chosen = few_labels(data, arguments)
    say(f"labels         {len(chosen):,} of {len(data.x_train):,} are used")

    import numpy as np

    from fusednn import models, utils

    utils.set_random_seed(arguments.seed)
    model = train.make_model(data, arguments)
    plain = models.clone_model(model)
    plain.set_weights(model.get_weights())
    if not arguments.quiet:
        model.summary()

    start = time.perf_counter()
    largest = train.largest_product(data, arguments)
    with np.errstate(over="ignore", invalid="ignore"), training_threads(arguments.threads, largest):
        for line in _pretrain(model, data, arguments):
            say(line)
        if arguments.fine_tune == "output":
            for layer in model.layers[:-1]:
                layer.trainable = False
        pretrained = _accuracy(model, data, chosen, arguments)
        without = _accuracy(plain, data, chosen, arguments)
    seconds = time.perf_counter() - start

    count = f"{len(data.x_test):,} examples"
    print(f"test accuracy  {pretrained:.4f} on {count}, pretrained")
    print(f"               {without:.4f} on {count}, without pretraining")
    print(f"gain           {_gain(pretrained, without, len(data.x_test))}")
    print(f"training       {seconds:.2f} s")
    if arguments.save is not None:
        model.save(arguments.save)
        say(f"model          {arguments.save}, pretrained")


def few_labels(data: LabeledData, arguments: argparse.Namespace) -> Any:
    """Return which training samples' labels are used: each class has its share, but at least one.

    Raises
    ------
    ValueError
        There are fewer classes or more samples than `--labels` asks for.
    """
    import numpy as np

    count, total = arguments.labels, len(data.y_train)
    if not len(data.classes) <= count <= total:
        raise ValueError(
            f"--labels must be from {len(data.classes)}, the number of classes, to {total}, that "
            f"of training samples. Received: {count}"
        )
    random = np.random.default_rng(arguments.seed)
    order = random.permutation(total)
    labels = data.y_train[order]
    # The first of each class go first, then the second ones in proportion, and so on.
    place = np.empty(total)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[members] = np.arange(len(members)) / len(members)
    return np.sort(order[np.argsort(place, kind="stable")[:count]])


def _pretrain(model: Sequential, data: LabeledData, arguments: argparse.Namespace) -> list[str]:
    from fusednn import models, optimizers

    histories = models.pretrain_autoencoders(
        model,
        data.x_train,
        optimizer=optimizers.serialize(train.make_optimizer(arguments)),
        noise=arguments.noise,
        tied=arguments.tied,
        epochs=arguments.pretrain_epochs,
        batch_size=arguments.batch_size,
        verbose=_verbosity(arguments),
    )
    lines = []
    for i, history in enumerate(histories):
        losses = history.history["loss"]
        lines.append(
            f"hidden layer   {i + 1} of {len(histories)}: mean squared error of its autoencoder "
            f"{losses[0]:.4g} in the first epoch, {losses[-1]:.4g} in the last"
        )
    return lines


def _accuracy(
    model: Sequential, data: LabeledData, chosen: Any, arguments: argparse.Namespace
) -> float:
    """Train on the labels; return the accuracy on the test set."""
    from fusednn import utils

    utils.set_random_seed(arguments.seed)
    model.compile(
        train.make_optimizer(arguments), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(
        data.x_train[chosen],
        data.y_train[chosen],
        batch_size=arguments.batch_size,
        epochs=arguments.epochs,
        verbose=_verbosity(arguments),
    )
    tested = model.evaluate(data.x_test, data.y_test, verbose=0, return_dict=True)
    return cast(dict[str, float], tested)["accuracy"]


def _verbosity(arguments: argparse.Namespace) -> int:
    # Many short trainings: the lines that sum them up tell how far it is.
    return 2 if arguments.verbose else 0


def _gain(pretrained: float, without: float, count: int) -> str:
    """Say what came of it, beside what chance alone makes of two such accuracies."""
    spread = ((pretrained * (1 - pretrained) + without * (1 - without)) / max(count, 1)) ** 0.5
    gain = pretrained - without
    verdict = "pretraining helped" if gain > 0 else "pretraining cost accuracy"
    if abs(gain) <= 2 * spread:
        verdict = "within what chance makes of a test set of this size"
    return f"{gain:+.4f}: {verdict}"
