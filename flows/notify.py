"""Being told: `python -m flows.notify BLOCK` makes Prefect send a message when a flow fails, or does not run.

BLOCK names a notification block, `TYPE/NAME`, made once in Prefect's UI (Blocks): Slack, Teams, e-mail, a webhook;
its secret stays in Prefect's database.
"""

import argparse
import sys
from datetime import timedelta

from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound

from discern.errors import DiscernError, SettingsError
from flows.server import meet_server

FLOWS = ["pipeline", "data-check", "promotion-check"]
BAD_ENDS = {"prefect.flow-run.Failed", "prefect.flow-run.Crashed"}
GOOD_END = {"prefect.flow-run.Completed"}
BODY = "{{ flow.name }} {{ flow_run.name }}: {{ flow_run.state.name }}. {{ flow_run.state.message }}"


def automations(block: SendNotification, silence: timedelta) -> list[Automation]:
    """A message for every run of the flows that ends badly, and one when the pipeline has not ended well for long.

    Args:
        block: how to send; its text is replaced.
        silence: longest time between two runs of the pipeline that is no reason to worry.
    """

    def of(*names: str) -> ResourceSpecification:
        labels = {"prefect.resource.role": "flow", "prefect.resource.name": list(names)}
        return ResourceSpecification.model_validate(labels)

    every_run = ResourceSpecification.model_validate({"prefect.resource.id": "prefect.flow-run.*"})
    failed = EventTrigger(
        match=every_run, match_related=of(*FLOWS), expect=BAD_ENDS, posture=Posture.Reactive, threshold=1
    )
    silent = EventTrigger(
        match=every_run, match_related=of("pipeline"), expect=GOOD_END, posture=Posture.Proactive, threshold=1,
        within=silence,
    )  # fmt: skip
    late = f"The pipeline has not ended well for {silence}."
    return [
        Automation(
            name="discern: a run ended badly", trigger=failed,
            actions=[block.model_copy(update={"subject": "discern: {{ flow_run.state.name }}", "body": BODY})],
        ),
        Automation(
            name="discern: nothing heard", trigger=silent,
            actions=[block.model_copy(update={"subject": "discern: nothing heard", "body": late})],
        ),
    ]  # fmt: skip


def find_block(name: str) -> SendNotification:
    """The action of a notification block, `TYPE/NAME`.

    Raises:
        SettingsError: there is none.
    """
    kind, _, document = name.partition("/")
    with get_client(sync_client=True) as client:
        try:
            block = client.read_block_document_by_name(document, kind)
        except ObjectNotFound as error:
            raise SettingsError(f"{name}: no such block; make it in Prefect's UI (Blocks)") from error
    return SendNotification(block_document_id=block.id, body="")


def main() -> int:
    """Make the automations anew."""
    parser = argparse.ArgumentParser(prog="python -m flows.notify", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("block", help="TYPE/NAME of a notification block, e.g. slack-webhook/team")
    parser.add_argument("--hours", type=float, default=26, help="without a good end of the pipeline; default 26")
    options = parser.parse_args()
    try:
        meet_server()
        for automation in automations(find_block(options.block), timedelta(hours=options.hours)):
            with get_client(sync_client=True) as client:
                for old in client.read_automations_by_name(automation.name):
                    client.delete_automation(old.id)
            automation.create()
            sys.stdout.write(f"{automation.name}\n")
    except DiscernError as error:
        sys.stderr.write(f"discern: ERROR {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
