"""The suite `resurgence`: does a forgotten concept come back when the model is trained further?"""

from __future__ import annotations

from bench.core.task import Finetune, Task
from bench.suites.base import Suite
from bench.suites.finegrained import near_twin_tasks, single_tasks
from bench.suites.neighbours import nearest_neighbour
from bench.suites.request import Request
from bench.worlds.base import World

# These fine-tunings decide the tasks. The fingerprint of a board contains its tasks by value, so boards that were made
# with other fine-tunings have another fingerprint.
HARMLESS = (  # data that never shows the forgotten concept
    Finetune("retained", "full"),
    Finetune("retained", "lora"),
    Finetune("unrelated", "full"),
    Finetune("unrelated", "lora"),
)
RELEARNING = tuple(Finetune("concept", "full", pictures) for pictures in (5, 10, 20))  # pictures of the concept itself


def resurgence_tasks(world: World, request: Request) -> tuple[Task, ...]:
    """For each concept and each fine-tuning: forget the concept alone, then train the model further.

    A task measures the concept, its nearest neighbour, and the nearest neighbours of the other concepts in other
    domains. A concept that is alone in its domain has no nearest neighbour.
    """
    singles = single_tasks(world, request.forget) if request.forget else near_twin_tasks(world)
    neighbours = {t.forget[0]: nearest_neighbour(world, t.forget[0], t.in_domain)[0] for t in singles if t.in_domain}
    tasks = []
    # concepts vary fastest, so that parallel workers need not wait for the same unlearned model
    for finetune in HARMLESS + RELEARNING:
        for single in singles:
            concept = single.forget[0]
            others = dict.fromkeys(neighbour for c, neighbour in neighbours.items() if c != concept)
            in_domain = (neighbours[concept],) if concept in neighbours else ()
            out_of_domain = tuple(neighbour for neighbour in others if neighbour in single.out_of_domain)
            name, band = f"{concept}: {finetune.name}", finetune.name
            tasks.append(Task(name, single.forget, in_domain, out_of_domain, band, single, finetune))
    return tuple(tasks)


RESURGENCE = Suite(
    "resurgence",
    "does a near twin of each domain, or a concept of --forget, come back when the model is trained further",
    lambda world: resurgence_tasks(world, Request()),
    resurgence_tasks,
    protocol={"images_per_concept": 8, "curve_images": 8},
    curve=5,
    curve_reason="it measures at checkpoints along the training that follows unlearning",
)
