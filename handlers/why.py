"""`/api/tasks/{id}/why`: why a task is where it is."""

from handlers.tasks import owner_of
from services.why import WhyService
from tornado_rt.api import ApiHandler


class WhyHandler(ApiHandler):
    """`GET`: why a task is where it is, and all that has happened to it, in sentences."""

    def initialize(self, why: WhyService) -> None:
        self.why = why

    async def get(self, task_id: str) -> None:
        found = await self.why.explain(task_id, self.identity.user_id, owner_of(self))
        self.answer_in(self.read_by.words, found.to_dict())
