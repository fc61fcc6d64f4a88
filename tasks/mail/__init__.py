"""Mail out: how a letter is worded, composed and handed to the mail server, exactly once or openly unknown.

Three parts: words (the templates), letters (MIME) and post (SMTP and TLS). Knows no table, roster or campaign, and
decides neither who gets a letter nor whether one is sent again.
"""

from tasks.mail.letters import ADDRESS, Attachment, Letter, MailError, compose, message_id
from tasks.mail.post import Delivery, Post, open_post
from tasks.mail.words import LANGUAGES, TEMPLATES, Rendered, TemplateFault, Words, render

__all__ = [
    "ADDRESS",
    "LANGUAGES",
    "TEMPLATES",
    "Attachment",
    "Delivery",
    "Letter",
    "MailError",
    "Post",
    "Rendered",
    "TemplateFault",
    "Words",
    "compose",
    "message_id",
    "open_post",
    "render",
]
