"""The task in each framework, written as its documentation does: a planner, executors side by side, an answer."""

import operator
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypedDict

from deepagents import create_deep_agent
from deepagents.backends.utils import create_file_data
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from pydantic import BaseModel
from pydantic_ai import Agent, RunContext
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from sprint_agents import Sprint
from sprint_agents.engines import OpenAIEngine

from .task import DOCUMENT, PATH, QUESTION

TASK = f"{DOCUMENT}\n\n{QUESTION}"
PLANNING = "You split a question into subtasks, have them solved at the same time, and then answer it."
SOLVING = "You solve one subtask of a question about a document."


class Subtasks(BaseModel):
    """What LangGraph's planner writes."""

    subtasks: list[str]


async def sprint(url: str) -> None:
    """Run a ``Sprint`` with the JSON dialect: executors read the planner's context up to their prompt."""
    async with OpenAIEngine(url, model="any") as engine:
        await Sprint(engine, dialect="json").run(TASK)


async def langgraph(url: str) -> None:
    """Run the orchestrator and workers of LangGraph's documentation: ``Send`` to one node for each subtask."""
    model = ChatOpenAI(base_url=url, api_key="none", model="any")  # pyright: ignore[reportArgumentType]
    planner = model.with_structured_output(Subtasks, method="json_schema")

    class State(TypedDict, total=False):
        subtasks: list[str]
        results: Annotated[list[str], operator.add]
        answer: str

    class Work(TypedDict):
        subtask: str

    async def plan(_: State) -> State:
        found = await planner.ainvoke([SystemMessage(PLANNING), HumanMessage(TASK)])
        assert isinstance(found, Subtasks)
        return {"subtasks": found.subtasks}

    async def solve(work: Work) -> State:
        asked = HumanMessage(f"{DOCUMENT}\n\n{work['subtask']}")
        return {"results": [str((await model.ainvoke([SystemMessage(SOLVING), asked])).content)]}

    async def answer(state: State) -> State:
        results = "\n".join(state.get("results", []))
        asked = HumanMessage(f"{QUESTION}\n\nResults:\n{results}")
        return {"answer": str((await model.ainvoke([SystemMessage(PLANNING), asked])).content)}

    builder = StateGraph(State)
    for node in (plan, solve, answer):
        builder.add_node(node.__name__, node)  # pyright: ignore[reportUnknownMemberType, reportArgumentType]
    builder.add_edge(START, "plan")
    builder.add_conditional_edges(
        "plan", lambda state: [Send("solve", {"subtask": one}) for one in state["subtasks"]], ["solve"]
    )
    builder.add_edge("solve", "answer")
    builder.add_edge("answer", END)
    await builder.compile().ainvoke({})  # pyright: ignore[reportUnknownMemberType]


async def pydantic_ai(url: str) -> None:
    """Run two agents of pydantic-ai: the first delegates by a tool, which runs the second."""
    model = OpenAIChatModel("any", provider=OpenAIProvider(base_url=url, api_key="none"))
    solver = Agent(model, instructions=SOLVING)
    lead = Agent(model, instructions=PLANNING, deps_type=str)

    @lead.tool
    async def delegate(ctx: RunContext[str], subtask: str) -> str:  # pyright: ignore[reportUnusedFunction]
        """Have a subtask solved."""
        return (await solver.run(f"{ctx.deps}\n\n{subtask}", usage=ctx.usage)).output

    await lead.run(TASK, deps=DOCUMENT)


async def deepagents(url: str) -> None:
    """Run deepagents with isolated sub-agents, which read the document from the file system of the run."""
    await _deepagents(url, {"system_prompt": SOLVING})


async def deepagents_fork(url: str) -> None:
    """Run deepagents with sub-agents that fork the conversation."""
    await _deepagents(url, {"mode": "fork"})


async def _deepagents(url: str, options: dict[str, Any]) -> None:
    solver: Any = {"name": "solver", "description": "Solves one subtask.", **options}
    model = ChatOpenAI(base_url=url, api_key="none", model="any")  # pyright: ignore[reportArgumentType]
    agent: Any = create_deep_agent(model=model, system_prompt=PLANNING, subagents=[solver])
    await agent.ainvoke({"messages": [{"role": "user", "content": TASK}], "files": {PATH: create_file_data(DOCUMENT)}})


PROGRAMS: dict[str, Callable[[str], Awaitable[None]]] = {
    "sprint-agents": sprint,
    "LangGraph, `Send`": langgraph,
    "pydantic-ai, delegation": pydantic_ai,
    "deepagents, isolated": deepagents,
    'deepagents, `mode="fork"`': deepagents_fork,
}
