"""The paper trader: a broker that fills signals at a cost, its ledger, and what signals earned."""

from atlas.paper.broker import Broker
from atlas.paper.ledger import Order, PaperLedger, Status
from atlas.paper.position import DESK, Position, Profit, decide, earned
from atlas.paper.settlement import Settlement, settle

__all__ = [
    "DESK",
    "Broker",
    "Order",
    "PaperLedger",
    "Position",
    "Profit",
    "Settlement",
    "Status",
    "decide",
    "earned",
    "settle",
]
