"""What a site checks for itself before it touches its data. Default deny: what no rule admits is refused.

1. The documents are the ones that the statement names by digest (`requests`).
2. The member list is one that this site trusts (`trust`), is the one that the plan names, and names this site with this site's own key;
   every invited site is a member (`documents`).
3. The plan has the author and the approvals that the plan itself and this site's policy ask for, by officers on that list, when the run
   begins here. A run outlives them by as long as approvals may be good, so that none is begun to be carried out some day (`documents`).
4. One rule of this site's policy admits all of the plan: purpose, contract, component, privacy and its cost, aggregation and what that protects against
   (`rules`). It takes no feature that the site forbids, and this site recognises peers (`policy`).
5. A private plan is about the unit of this population's own account (`policy`). Whether the account has that much left is asked at each charge (`client.accounts`).
6. The data contract is, to the byte, the one that this site holds for one of its own data sets (`documents`).
7. The training component is installed here, and is the one for the plan's privacy mode (`policy`).
8. It is an hour in which this site takes part, and a person here has allowed the plan where the rule asks for one (`consent`, `presence`).
9. Each statement's roster is a part of the plan's invitation, and names this site; its stage and round are ones that the plan has
   (`requests`).
"""
