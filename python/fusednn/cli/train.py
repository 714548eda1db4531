"""Train a deep classifier on a data file, and test it.

The network: for each hidden layer Dense, BatchNormalization (unless left out) and an activation,
then a softmax over the classes; loss: cross-entropy.
"""

from __future__ import annotations

import argparse
import time
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

from fusednn.cli import model_file, plot
from fusednn.cli.threads import training_threads
from fusednn.cli.values import column, integer, layer_widths, number_between

if TYPE_CHECKING:
    from fusednn.datasets import LabeledData
    from fusednn.models import Sequential
    from fusednn.optimizers import Optimizer

ACTIVATIONS = ("leaky_relu", "relu", "elu", "selu", "tanh", "sigmoid")
INITIALIZERS = tuple(
    f"{family}_{shape}" for family in ("he", "glorot", "lecun") for shape in ("normal", "uniform")
)
OPTIMIZERS = {
    "adam": "Adam",
    "adamw": "AdamW",
    "adamax": "Adamax",
    "nadam": "Nadam",
    "rmsprop": "RMSprop",
    "sgd": "SGD",
    "adagrad": "Adagrad",
}

#: Data sets by name: those that come with scikit-learn, and those whose files the user has.
DATA_SETS = ("digits", "breast_cancer", "wine", "mnist", "fashion_mnist", "cifar10")

TEST_FRACTION = 0.2

# With Keras' 0.99 the moving averages need hundreds of steps; a small file gives fewer.
BATCH_NORM_MOMENTUM = 0.95


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``fusednn train``."""
    parser.set_defaults(run=run)
    add_data_options(parser)
    add_network_options(parser.add_argument_group("network"))
    add_training_options(parser.add_argument_group("training"))
    _add_output_options(parser.add_argument_group("output"))


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add what to read, and how."""
    parser.add_argument(
        "data",
        metavar="DATA",
        nargs="?",
        default="digits",
        help="digits (default), scikit-learn's handwriting, breast_cancer or wine; mnist, "
        "fashion_mnist or cifar10, where their files are in ~/.keras/datasets; or a path: a .npz "
        "file with x and y or x_train, y_train, x_test, y_test; a .csv file of numbers and one "
        "column of labels; MNIST-style IDX files, given by their folder or by the file of images; "
        "CIFAR-10's binary version",
    )
    group = parser.add_argument_group("data")
    group.add_argument(
        "--test-fraction",
        type=number_between(0, 1),
        metavar="SHARE",
        help="share of each class that is kept for testing where the data has no test set "
        f"(default {TEST_FRACTION})",
    )
    group.add_argument(
        "--label",
        type=column,
        metavar="COLUMN",
        help="column of a .csv file that holds the labels, its name or its number from 1 "
        "(default: the last)",
    )
    group.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        help="whether a .csv file opens with the columns' names (default: it does if no feature in "
        "its first line is a number)",
    )


def add_network_options(group: argparse._ArgumentGroup) -> None:
    """Add what `make_model` builds."""
    group.add_argument(
        "--layers",
        type=layer_widths,
        default="4x128",
        metavar="WIDTHS",
        help="hidden layers, as 300,100 or 20x100, twenty of a hundred (default %(default)s)",
    )
    group.add_argument(
        "--activation",
        choices=ACTIVATIONS,
        default="leaky_relu",
        help="of the hidden layers (default %(default)s)",
    )
    group.add_argument(
        "--initializer",
        choices=INITIALIZERS,
        default="he_normal",
        help="of the hidden layers' kernels (default %(default)s)",
    )
    group.add_argument(
        "--normalisation",
        "--normalization",
        choices=("batch", "none"),
        default="batch",
        help="before each activation (default %(default)s)",
    )


def add_training_options(group: argparse._ArgumentGroup) -> None:
    """Add how, how long and where to train."""
    group.add_argument(
        "--optimizer", choices=tuple(OPTIMIZERS), default="adam", help="(default %(default)s)"
    )
    group.add_argument(
        "--learning-rate",
        type=number_between(0),
        metavar="RATE",
        help="(default: the optimizer's, as in Keras)",
    )
    group.add_argument(
        "--momentum",
        type=number_between(0, 1, low_allowed=True),
        metavar="SHARE",
        help="of sgd and rmsprop (default 0)",
    )
    group.add_argument("--nesterov", action="store_true", help="Nesterov's momentum, of sgd")
    group.add_argument(
        "--epochs",
        type=integer(1),
        default=40,
        metavar="N",
        help="passes over the training set (default %(default)s)",
    )
    group.add_argument(
        "--batch-size",
        type=integer(1),
        default=32,
        metavar="N",
        help="examples a step (default %(default)s)",
    )
    group.add_argument(
        "--seed",
        type=integer(0),
        default=0,
        metavar="N",
        help="of the split, the weights and the order of the examples (default %(default)s)",
    )
    group.add_argument(
        "--device",
        default="cpu",
        metavar="NAME",
        help="cpu, or cuda, cuda:1, ..., an NVIDIA GPU, which needs CuPy (default %(default)s)",
    )
    group.add_argument(
        "--threads",
        type=integer(1),
        metavar="N",
        help="of the kernels and of NumPy's matrix products, which share them if NumPy's BLAS is "
        "OpenBLAS (default: see fusednn info; of the products one if they are small)",
    )


def _add_output_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--plot", metavar="FILE", help="write the learning curves to an image, as curve.png"
    )
    model_file.add_option(group)
    verbosity = group.add_mutually_exclusive_group()
    verbosity.add_argument(
        "--verbose",
        action="store_true",
        help="a line an epoch instead of a progress bar (as where standard error is no terminal)",
    )
    verbosity.add_argument("--quiet", action="store_true", help="print the result only")


def run(arguments: argparse.Namespace) -> None:
    """Read, build, train, test; print each."""
    if arguments.plot is not None:
        plot.check(arguments.plot)
    model_file.check(arguments.save)
    with chosen_device(arguments.device):
        _run(arguments)


def _run(arguments: argparse.Namespace) -> None:
    optimizer = make_optimizer(arguments)
    data, report = read_data(arguments)
    say = print if not arguments.quiet else lambda *_: None
    for line in report:
        say(line)

    import numpy as np

    from fusednn import utils

    utils.set_random_seed(arguments.seed)
    model = make_model(data, arguments)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    if not arguments.quiet:
        model.summary()

    start = time.perf_counter()
    # `fit` refuses a loss that is not finite; NumPy's warnings on the way there say no more.
    with (
        np.errstate(over="ignore", invalid="ignore"),
        training_threads(arguments.threads, largest_product(data, arguments)),
    ):
        history = model.fit(
            data.x_train,
            data.y_train,
            batch_size=arguments.batch_size,
            epochs=arguments.epochs,
            validation_data=(data.x_test, data.y_test) if arguments.plot is not None else None,
            verbose=0 if arguments.quiet else 2 if arguments.verbose else "auto",
        )
    seconds = time.perf_counter() - start
    tested = model.evaluate(data.x_test, data.y_test, verbose=0, return_dict=True)
    accuracy = cast(dict[str, float], tested)["accuracy"]

    trained = arguments.epochs * len(data.x_train)
    print(f"test accuracy  {accuracy:.4f} on {len(data.x_test):,} examples")
    print(f"training       {seconds:.2f} s, {trained / seconds:,.0f} samples per second")
    if arguments.plot is not None:
        plot.save(history.history, arguments.plot)
        say(f"curves         {arguments.plot}")
    if arguments.save is not None:
        model.save(arguments.save)
        say(f"model          {arguments.save}")


def chosen_device(name: str) -> AbstractContextManager[Any]:
    """Choose the device that the model computes on; its lack is the user's to mend."""
    from fusednn import devices

    try:
        return devices.device(name)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"--device: {error}") from error


def read_data(arguments: argparse.Namespace) -> tuple[LabeledData, list[str]]:
    """Return the data, flattened, scaled and with a test set, and lines that describe it."""
    from dataclasses import replace

    from fusednn import datasets

    if arguments.data in DATA_SETS:
        if arguments.label is not None or arguments.header is not None:
            raise ValueError("--label and --header are for .csv files")
        source = getattr(datasets, arguments.data).load()
    else:
        source = datasets.load(arguments.data, label=arguments.label, header=arguments.header)
    if len(source.x_test) and arguments.test_fraction is not None:
        raise ValueError(f"{source.source}: has a test set of its own: leave --test-fraction out")
    share = TEST_FRACTION if arguments.test_fraction is None else arguments.test_fraction
    data, scaling = datasets.scale_features(source.with_test_set(share, arguments.seed))
    shape = data.x_train.shape[1:]
    data = replace(
        data,
        x_train=data.x_train.reshape(len(data.x_train), -1),
        x_test=data.x_test.reshape(len(data.x_test), -1),
    )
    split = "the data's own" if len(source.x_test) else f"stratified, {share:.0%} for testing"
    return data, [
        f"data           {data.source}: {len(data.x_train):,} examples for training, "
        f"{len(data.x_test):,} for testing",
        f"features       {' x '.join(map(str, shape))}; {scaling}",
        f"classes        {len(data.classes)}: {_abridged(data.classes)}",
        f"split          {split}",
    ]


def make_model(data: LabeledData, arguments: argparse.Namespace) -> Sequential:
    """Return the network, not yet compiled."""
    from fusednn import layers, models

    model = models.Sequential([layers.Input((data.x_train.shape[1],))])
    for width in arguments.layers:
        model.add(layers.Dense(width, kernel_initializer=arguments.initializer))
        if arguments.normalisation == "batch":
            model.add(layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM))
        if arguments.activation == "leaky_relu":
            model.add(layers.LeakyReLU())
        else:
            model.add(layers.Activation(arguments.activation))
    model.add(layers.Dense(len(data.classes), activation="softmax"))
    return model


def make_optimizer(arguments: argparse.Namespace) -> Optimizer:
    """Return the optimizer; its own defaults hold for what was not given."""
    options: dict[str, Any] = {}
    if arguments.learning_rate is not None:
        options["learning_rate"] = arguments.learning_rate
    if arguments.momentum is not None:
        if arguments.optimizer not in ("sgd", "rmsprop"):
            raise ValueError(f"--momentum is for sgd and rmsprop. Received: {arguments.optimizer}")
        options["momentum"] = arguments.momentum
    if arguments.nesterov:
        if arguments.optimizer != "sgd" or not arguments.momentum:
            raise ValueError("--nesterov is for --optimizer sgd with a --momentum above 0")
        options["nesterov"] = True

    from fusednn import optimizers

    optimizer: Optimizer = getattr(optimizers, OPTIMIZERS[arguments.optimizer])(**options)
    return optimizer


def largest_product(data: LabeledData, arguments: argparse.Namespace) -> int:
    """Return the multiply-adds of the network's largest matrix product."""
    widths: list[int] = [data.x_train.shape[1], *arguments.layers, len(data.classes)]
    return int(arguments.batch_size) * max(a * b for a, b in pairwise(widths))


def _abridged(names: tuple[str, ...], most: int = 10) -> str:
    if len(names) <= most:
        return ", ".join(names)
    return ", ".join([*names[: most - 2], "...", names[-1]])
