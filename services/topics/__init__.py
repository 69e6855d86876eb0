"""Topics of the application: what it publishes, and who was away for a while is told later."""

from services.topics.names import TOPIC_LENGTH, check_topic, matches
from services.topics.service import PublishRequest, TopicService

__all__ = ["TOPIC_LENGTH", "PublishRequest", "TopicService", "check_topic", "matches"]
